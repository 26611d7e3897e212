/*-------------------------------------------------------------------------
 *
 * secret.c
 *	  The PSPs' secret keys, read from files.
 *
 * Files are what systemd credentials and Kubernetes mount.  Rotation replaces
 * the file; one fstat per use notices.  What was read is wiped before its
 * memory is used again, and never logged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "payment.h"
#include "secret.h"

#define SECRETS_MAX 64
#define SECRET_NAME_LENGTH_MAX 200
#define SECRET_BYTES_MAX 4096

typedef struct Secret
{
	char			name[SECRET_NAME_LENGTH_MAX + 1];
	dev_t			device;
	ino_t			inode;
	off_t			size;
	struct timespec modified_at;
	char			value[SECRET_BYTES_MAX + 1];
} Secret;

static Secret secrets[SECRETS_MAX];
static int	  secret_count = 0;
static int	  next_victim = 0;
static char	  problem_text[512];

static Secret *
find_secret(const char *name)
{
	for (int i = 0; i < secret_count; i++)
		if (strcmp(secrets[i].name, name) == 0)
			return &secrets[i];
	return NULL;
}

static Secret *
new_secret(const char *name)
{
	Secret *secret;

	if (secret_count < SECRETS_MAX)
		secret = &secrets[secret_count++];
	else
	{
		secret = &secrets[next_victim];
		next_victim = (next_victim + 1) % SECRETS_MAX;
	}
	explicit_bzero(secret, sizeof(*secret));
	strlcpy(secret->name, name, sizeof(secret->name));
	return secret;
}

static bool
is_unchanged(const Secret *secret, const struct stat *status)
{
	return secret->value[0] != '\0' && secret->device == status->st_dev &&
		   secret->inode == status->st_ino &&
		   secret->size == status->st_size &&
		   secret->modified_at.tv_sec == status->st_mtim.tv_sec &&
		   secret->modified_at.tv_nsec == status->st_mtim.tv_nsec;
}

/* A name of one file, so that no setting leads out of the directory. */
static bool
is_file_name(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
		   strlen(name) <= SECRET_NAME_LENGTH_MAX;
}

/*
 * Cut white space off the end; what is left must be able to stand in a header
 * line.
 */
static bool
trim_and_check(char *value)
{
	int length = (int) strlen(value);

	while (length > 0 && (unsigned char) value[length - 1] <= ' ')
		value[--length] = '\0';
	for (int i = 0; i < length; i++)
		if ((unsigned char) value[i] <= ' ' || (unsigned char) value[i] > '~')
			return false;
	return length > 0;
}

static bool
read_value(int fd, Secret *secret)
{
	int length = 0;

	for (;;)
	{
		ssize_t got =
			read(fd, secret->value + length, SECRET_BYTES_MAX - length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return false;
		if (got == 0)
			break;
		length += (int) got;
	}
	secret->value[length] = '\0';

	/* A NUL inside would hide what follows it. */
	return (int) strlen(secret->value) == length;
}

static const char *
load(const char *name, int fd)
{
	Secret	   *secret = find_secret(name);
	struct stat status;

	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
	{
		snprintf(problem_text, sizeof(problem_text),
				 "secret file \"%s\" is not a regular file", name);
		return NULL;
	}
	if (secret && is_unchanged(secret, &status))
		return secret->value;

	if (secret == NULL)
		secret = new_secret(name);
	explicit_bzero(secret->value, sizeof(secret->value));
	if (status.st_size > SECRET_BYTES_MAX || !read_value(fd, secret) ||
		!trim_and_check(secret->value))
	{
		explicit_bzero(secret->value, sizeof(secret->value));
		snprintf(problem_text, sizeof(problem_text),
				 "secret file \"%s\" does not hold one line of at most %d "
				 "printable characters",
				 name, SECRET_BYTES_MAX);
		return NULL;
	}
	secret->device = status.st_dev;
	secret->inode = status.st_ino;
	secret->size = status.st_size;
	secret->modified_at = status.st_mtim;
	return secret->value;
}

const char *
secret_get(const char *name, const char **problem)
{
	char		path[MAXPGPATH];
	const char *value;
	int			fd;

	*problem = problem_text;
	if (payment_secrets_dir == NULL || payment_secrets_dir[0] == '\0')
	{
		strlcpy(problem_text, "payment.secrets_dir is not set",
				sizeof(problem_text));
		return NULL;
	}
	if (!is_file_name(name))
	{
		strlcpy(problem_text, "the PSP's secret_name is not a file name",
				sizeof(problem_text));
		return NULL;
	}
	snprintf(path, sizeof(path), "%s/%s", payment_secrets_dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
	{
		snprintf(problem_text, sizeof(problem_text),
				 "could not open secret file \"%s\": %s", name,
				 strerror(errno));
		return NULL;
	}
	value = load(name, fd);
	close(fd);
	return value;
}
