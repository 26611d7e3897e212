/*
 * webhook.c
 *		The least of an HTTP client: one request, one status line.
 */
#include "webhook.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "buf.h"

#define TIMEOUT_S 5

bool
webhook_parse(Webhook *webhook, const char *url)
{
	static const char scheme[] = "http://";
	const char		 *host = url + strlen(scheme);
	const char		 *path;
	int				  end = 0;

	memset(webhook, 0, sizeof(*webhook));
	if (strncmp(url, scheme, strlen(scheme)) != 0)
		return false;
	path = host + strcspn(host, "/");
	if (strpbrk(url, " \r\n") != NULL || strlen(path) >= WEBHOOK_PART_MAX)
		return false;
	snprintf(webhook->path, sizeof(webhook->path), "%s", *path ? path : "/");
	snprintf(webhook->port, sizeof(webhook->port), "80");
	if (sscanf(host, "%255[^:/]%n:%5[0-9]%n", webhook->host, &end,
			   webhook->port, &end) < 1)
		return false;
	return host + end == path;
}

static int
connect_to(const Webhook *webhook)
{
	struct addrinfo	 hints = { .ai_family = AF_UNSPEC,
							   .ai_socktype = SOCK_STREAM };
	struct addrinfo *addresses;
	struct timeval	 timeout = { TIMEOUT_S, 0 };
	int				 fd = -1;

	if (getaddrinfo(webhook->host, webhook->port, &hints, &addresses) != 0)
		return -1;
	for (struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next)
	{
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
		if (connect(fd, a->ai_addr, a->ai_addrlen) != 0)
		{
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(addresses);
	return fd;
}

static bool
send_all(int fd, const Buf *text)
{
	for (size_t done = 0; done < text->len;)
	{
		ssize_t n =
			send(fd, text->data + done, text->len - done, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		done += (size_t) n;
	}
	return true;
}

static bool
read_status(int fd)
{
	char   line[16] = "";
	size_t len = 0;

	while (len < strlen("HTTP/1.1 200"))
	{
		ssize_t n = recv(fd, line + len, sizeof(line) - 1 - len, 0);

		if (n <= 0)
			return false;
		len += (size_t) n;
	}
	return strncmp(line, "HTTP/1.", 7) == 0 && line[9] == '2';
}

bool
webhook_post(const Webhook *webhook, const char *headers, const char *body)
{
	Buf	 text = { 0 };
	int	 fd = connect_to(webhook);
	bool confirmed;

	if (fd < 0)
		return false;
	buf_printf(&text,
			   "POST %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n"
			   "Content-Type: application/json\r\nContent-Length: %zu\r\n"
			   "%s\r\n%s",
			   webhook->path, webhook->host, webhook->port, strlen(body),
			   headers, body);
	confirmed = send_all(fd, &text) && read_status(fd);
	buf_free(&text);
	close(fd);
	return confirmed;
}
