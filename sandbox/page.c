/*
 * page.c
 *		The payment page and the page of the payer's bank, for every PSP.
 *
 * It works by keyboard, without scripts and on the narrowest screen. Errors
 * are listed on top, have the focus and lead to their field. That the payer
 * comes back to the merchant proves nothing, here as elsewhere.
 */
#include "page.h"

#include <string.h>

#include "adyen.h"
#include "currency.h"
#include "dialect.h"
#include "options.h"
#include "session.h"

static const char style[] =
	"body{font:1.05rem/1.5 sans-serif;margin:0;color:#1a1a1a;background:#fff;"
	"overflow-wrap:anywhere}"
	"header,main,footer{max-width:36rem;margin:0 auto;padding:1rem}"
	"header,footer{color:#444}"
	"fieldset{border:1px solid #767676;border-radius:.3rem;margin:1rem 0;"
	"min-width:0}"
	".card{display:grid;grid-template-columns:auto 1fr;gap:0 .6rem;"
	"padding:.4rem 0;align-items:center}"
	".card input{width:1.5rem;height:1.5rem;margin:0}"
	".card small{grid-column:2;color:#444}"
	".error{border:2px solid #b00020;border-radius:.3rem;padding:.2rem 1rem}"
	"button{font:inherit;padding:.6rem 1.2rem;border:2px solid #0b4a8f;"
	"border-radius:.3rem;background:#0b4a8f;color:#fff;cursor:pointer;"
	"margin:0 .4rem .4rem 0}"
	"button.second{background:#fff;color:#0b4a8f}"
	":focus-visible,.error:focus{outline:3px solid #c45500;outline-offset:2px}"
	"dt{font-weight:bold}dd{margin:0 0 .5rem;white-space:pre-line}";

/* Text in HTML, between tags or quotes. */
static void
put_text(Buf *b, const char *text)
{
	for (; *text != '\0'; text++)
	{
		switch (*text)
		{
			case '&':
				buf_puts(b, "&amp;");
				break;
			case '<':
				buf_puts(b, "&lt;");
				break;
			case '>':
				buf_puts(b, "&gt;");
				break;
			case '"':
				buf_puts(b, "&quot;");
				break;
			case '\'':
				buf_puts(b, "&#39;");
				break;
			default:
				buf_putc(b, *text);
		}
	}
}

static void
begin_page(Request *request, int status, const char *title)
{
	Buf		   *b = &request->answer.body;
	const char *prefix = status == 422 ? "Error: " : "";

	request->answer.status = status;
	request->answer.content_type = "text/html; charset=utf-8";
	b->len = 0;
	buf_printf(b,
			   "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
			   "<meta charset=\"utf-8\">\n"
			   "<meta name=\"viewport\" "
			   "content=\"width=device-width, initial-scale=1\">\n"
			   "<meta name=\"robots\" content=\"noindex\">\n"
			   "<title>%s%s</title>\n<style>%s</style>\n</head>\n<body>\n"
			   "<header><p>Sandbox: no money moves, and no card number is "
			   "ever asked for.</p></header>\n<main>\n<h1>%s</h1>\n",
			   prefix, title, style, title);
}

static void
end_page(Request *request)
{
	buf_puts(&request->answer.body,
			 "</main>\n<footer><p>payment-sandbox</p></footer>\n"
			 "</body>\n</html>\n");
}

/* A page of one sentence, and a link when there is somewhere to go. */
static void
answer_sentence(Request *request, int status, const char *title,
				const char *sentence, const char *url)
{
	Buf *b = &request->answer.body;

	begin_page(request, status, title);
	buf_printf(b, "<p>%s</p>\n", sentence);
	if (url != NULL)
	{
		buf_puts(b, "<p><a id=\"back\" href=\"");
		put_text(b, url);
		buf_puts(b, "\">Back to the shop</a></p>\n");
	}
	end_page(request);
}

static Session *
find_session(const char *id)
{
	Session *session = book_find_session(PSP_STRIPE, id);

	return session ? session : book_find_session(PSP_ADYEN, id);
}

static const PageOwner *
owner_of(const Session *session)
{
	return session->psp == PSP_ADYEN ? &adyen_page : &stripe_page;
}

/* Where payers go who do not pay; nothing when there is no such place. */
static void
put_cancel_url(Buf *url, const Session *session)
{
	if (session->cancel_url != NULL)
		buf_puts(url, session->cancel_url);
	else if (session->psp == PSP_ADYEN)
		owner_of(session)->put_return_url(url, session);
}

void
page_put_url(Buf *url, const Session *session)
{
	buf_printf(url, "%s://%s/pay/%s", options.tls_cert ? "https" : "http",
			   session->host, public_id(session->id));
}

/* 303: the browser goes on with a GET, and reloading posts nothing. */
static void
redirect(Request *request, const char *url)
{
	answer_sentence(request, 303, "One moment",
					"You are being taken to the next page.", url);
	answer_header(request, "Location", "%s", url);
}

static void
redirect_to_merchant(Request *request, const Session *session)
{
	Buf url = { 0 };

	owner_of(session)->put_return_url(&url, session);
	redirect(request, url.data);
	buf_free(&url);
}

static void
answer_over(Request *request, const Session *session)
{
	Buf url = { 0 };

	/* Not to where those go who did not pay. */
	if (session->status == SESSION_COMPLETE)
	{
		owner_of(session)->put_return_url(&url, session);
		answer_sentence(request, 200, "This is done",
						"There is nothing more to do on this page.", url.data);
	}
	else
	{
		put_cancel_url(&url, session);
		answer_sentence(request, 410, "This page has expired",
						"It is too late to pay here. You were not charged.",
						url.data);
	}
	buf_free(&url);
}

static void
put_amount(Buf *b, const Session *session)
{
	char major[32];
	char code[4];

	currency_major(major, sizeof(major), session->currency, session->amount);
	currency_upper(code, session->currency);
	buf_printf(b, "%s %s", major, code);
}

static bool
is_setup(const Session *session)
{
	return session->setup != NONE;
}

static void
put_summary(Buf *b, const Session *session)
{
	if (is_setup(session))
	{
		buf_puts(b, "<p>Your card is saved to be charged later. You pay "
					"nothing now.</p>\n");
		return;
	}
	buf_puts(b, "<dl>\n");
	if (session->items != NULL)
	{
		buf_puts(b, "<dt>You buy</dt><dd>");
		put_text(b, session->items);
		buf_puts(b, "</dd>\n");
	}
	buf_puts(b, "<dt>You pay</dt><dd id=\"amount\">");
	put_amount(b, session);
	buf_puts(b, "</dd>\n</dl>\n");
}

static void
put_error(Buf *b, const char *message)
{
	buf_puts(b, "<div class=\"error\" role=\"alert\" tabindex=\"-1\" "
				"autofocus aria-labelledby=\"error-title\">\n"
				"<h2 id=\"error-title\">There is a problem</h2>\n"
				"<ul><li><a id=\"error\" href=\"#card-0\">");
	put_text(b, message);
	buf_puts(b, "</a></li></ul>\n</div>\n");
}

static void
put_cards(Buf *b, const PageCard *cards, const char *chosen, bool wrong)
{
	buf_printf(b,
			   "<fieldset role=\"radiogroup\"%s>\n"
			   "<legend>Choose a test card</legend>\n",
			   wrong ? " aria-invalid=\"true\" aria-describedby=\"error\""
					 : "");
	for (int i = 0; cards[i].method != NULL; i++)
	{
		bool checked = chosen != NULL && strcmp(chosen, cards[i].method) == 0;

		buf_printf(b,
				   "<div class=\"card\"><input type=\"radio\" name=\"card\" "
				   "id=\"card-%d\" aria-describedby=\"hint-%d\" "
				   "value=\"%s\"%s required>"
				   "<label for=\"card-%d\">%s</label>"
				   "<small id=\"hint-%d\">%s</small></div>\n",
				   i, i, cards[i].method, checked ? " checked" : "", i,
				   cards[i].label, i, cards[i].hint);
	}
	buf_puts(b, "</fieldset>\n");
}

static void
put_cancel(Buf *b, const Session *session)
{
	Buf url = { 0 };

	put_cancel_url(&url, session);
	if (url.data == NULL)
		return;
	buf_puts(b, "<p><a id=\"cancel\" href=\"");
	put_text(b, url.data);
	buf_puts(b, "\">Cancel and go back to the shop</a></p>\n");
	buf_free(&url);
}

static void
answer_form(Request *request, const Session *session, const char *chosen,
			const char *message)
{
	Buf		   *b = &request->answer.body;
	const char *title = is_setup(session) ? "Save a card" : "Pay";

	begin_page(request, message ? 422 : 200, title);
	if (message != NULL)
		put_error(b, message);
	put_summary(b, session);
	buf_printf(b, "<form method=\"post\" action=\"/pay/%s\">\n",
			   public_id(session->id));
	put_cards(b, owner_of(session)->cards, chosen, message != NULL);
	buf_puts(b, "<p><button type=\"submit\" id=\"pay\">");
	if (is_setup(session))
		buf_puts(b, "Save the card");
	else
	{
		buf_puts(b, "Pay ");
		put_amount(b, session);
	}
	buf_puts(b, "</button></p>\n</form>\n");
	put_cancel(b, session);
	end_page(request);
}

/* The session when it is open; else it is answered. */
static Session *
open_session(Request *request)
{
	Session *session = find_session(request->id);

	if (session == NULL)
		answer_sentence(request, 404, "There is no such page",
						"The address is not complete, or not right.", NULL);
	else if (session->status != SESSION_OPEN)
	{
		answer_over(request, session);
		session = NULL;
	}
	return session;
}

static void
answer_outcome(Request *request, const Session *session, PageOutcome outcome,
			   const char *chosen, const char *message)
{
	Buf url = { 0 };

	switch (outcome)
	{
		case PAGE_DONE:
			redirect_to_merchant(request, session);
			break;
		case PAGE_AUTHENTICATE:
			buf_printf(&url, "/pay/%s/authenticate", public_id(session->id));
			redirect(request, url.data);
			break;
		case PAGE_DECLINED:
			answer_form(request, session, chosen,
						message ? message : "Choose one of the cards.");
			break;
		case PAGE_GONE:
			put_cancel_url(&url, session);
			answer_sentence(request, 410, "This payment was canceled",
							"You were not charged.", url.data);
	}
	buf_free(&url);
}

void
page_show(Request *request)
{
	const Session *session = open_session(request);

	if (session != NULL)
		answer_form(request, session, NULL, NULL);
}

/* A second click on the button comes here when all is done. */
static bool
is_done_already(Request *request)
{
	const Session *session = find_session(request->id);

	if (session == NULL || session->status != SESSION_COMPLETE)
		return false;
	redirect_to_merchant(request, session);
	return true;
}

void
page_pay(Request *request)
{
	const char *card = form_take(request->params, "card");
	const char *message = NULL;
	Session	   *session;
	PageOutcome outcome;

	if (is_done_already(request))
		return;
	session = open_session(request);
	if (session == NULL)
		return;
	request->executed = true;
	outcome = owner_of(session)->pay(session, card ? card : "", &message);
	answer_outcome(request, session, outcome, card, message);
}

void
page_show_authentication(Request *request)
{
	const Session *session = open_session(request);
	Buf			  *b = &request->answer.body;

	if (session == NULL)
		return;
	begin_page(request, 200, "Your bank asks: is it you?");
	buf_puts(b, "<p>This is the page of the payer's bank (3-D Secure).</p>\n");
	put_summary(b, session);
	buf_printf(b,
			   "<form method=\"post\" action=\"/pay/%s/authenticate\">\n"
			   "<p><button type=\"submit\" name=\"result\" value=\"ok\" "
			   "id=\"authenticate\">Yes, it is me</button>\n"
			   "<button type=\"submit\" name=\"result\" value=\"fail\" "
			   "id=\"fail\" class=\"second\">Let it fail</button></p>\n"
			   "</form>\n",
			   public_id(session->id));
	put_cancel(b, session);
	end_page(request);
}

void
page_authenticate(Request *request)
{
	const char *result = form_take(request->params, "result");
	const char *message = NULL;
	Session	   *session;
	PageOutcome outcome;

	if (is_done_already(request))
		return;
	session = open_session(request);
	if (session == NULL)
		return;
	request->executed = true;
	outcome = owner_of(session)->authenticate(session,
											  result != NULL &&
												  strcmp(result, "ok") == 0,
											  &message);
	answer_outcome(request, session, outcome, NULL, message);
}

static bool
authorized(Request *request)
{
	(void) request;
	return true;
}

static void
trouble(Request *request, Trouble trouble, const char *about)
{
	(void) about;
	if (trouble == TROUBLE_NO_ROUTE)
		answer_sentence(request, 404, "There is no such page",
						"The address is not complete, or not right.", NULL);
	else
		answer_sentence(request, trouble == TROUBLE_TOO_LARGE ? 413 : 400,
						"That did not work",
						"The browser sent something that is no form.", NULL);
}

static void
scope_key(const Request *request, Buf *scoped)
{
	buf_printf(scoped, "page %s", request->idempotency_key);
}

static KeyLife
key_life(const Request *request)
{
	(void) request;
	return KEEP_A_DAY;
}

static bool
keeps_500(const Request *request)
{
	(void) request;
	return false;
}

static void
add_headers(Request *request)
{
	/* No form-action: it would keep payers from going back to the shop. */
	answer_header(request, "Content-Security-Policy",
				  "default-src 'none'; style-src 'unsafe-inline'; "
				  "base-uri 'none'; frame-ancestors 'none'");
	answer_header(request, "Referrer-Policy", "no-referrer");
	answer_header(request, "X-Content-Type-Options", "nosniff");
}

const Dialect page_dialect = { .psp = PSP_STRIPE,
							   .key_header = "Idempotency-Key",
							   .key_max = 255,
							   .authorized = authorized,
							   .trouble = trouble,
							   .scope_key = scope_key,
							   .key_life = key_life,
							   .keeps_500 = keeps_500,
							   .add_headers = add_headers };
