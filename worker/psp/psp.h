/*-------------------------------------------------------------------------
 *
 * psp.h
 *	  What an adapter is: how one PSP wants to be asked, and what its answers
 *	  mean.
 *
 * Adapters are pure: no I/O, no SQL, no settings, no clock.  They take memory
 * from palloc and raise nothing else than its errors, so that they can be
 * tested and fuzzed without a server.  All text is UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_H
#define PAYMENT_PSP_H

#include "lib/stringinfo.h"

#define PSP_MAX_HEADERS 8
#define PSP_MAX_CONFIG 8
#define PSP_CONFIG_VALUE_LENGTH_MAX 1024

/* longest text that is taken over from an answer, in bytes */
#define PSP_CODE_LENGTH_MAX 100
#define PSP_MESSAGE_LENGTH_MAX 500
#define PSP_REFERENCE_LENGTH_MAX 255
#define PSP_URL_LENGTH_MAX 2048

typedef enum PspOperation
{
	PSP_OPERATION_PAY,
	PSP_OPERATION_PAYOUT,
	PSP_OPERATION_CAPTURE,
	PSP_OPERATION_VOID,
	PSP_OPERATION_REFUND,
	PSP_OPERATION_REGISTER, /* a hosted page for a payment order */
	PSP_OPERATION_VERIFY,	/* whether a webhook is the PSP's; no task's */
	PSP_OPERATION_CLOSE, /* a hosted page, so that nobody pays there any more */
	PSP_OPERATION_DISPUTE_EVIDENCE, /* submitted against a dispute */
	PSP_OPERATION_DISPUTE_ACCEPT	/* the payer is right */
} PspOperation;

#define PSP_OPERATIONS 10

typedef enum PspStep
{
	PSP_STEP_SEND,	/* have it executed */
	PSP_STEP_LOOKUP /* find out what became of it */
} PspStep;

/* What to ask for.  Pointers may be NULL where the task has no such thing. */
typedef struct PspTask
{
	PspOperation operation;
	PspStep		 step;
	const char	*object_id;	 /* our payment order, payout or refund */
	const char	*payment_id; /* our payment */
	const char	*psp_key;	 /* idempotency key */
	int			 attempt_no;
	int64		 amount;   /* minor units */
	const char	*currency; /* upper case */
	const char	*payment_method;
	const char	*destination;
	const char	*description;
	const char	*psp_reference; /* the PSP's name for it, when known */
	const char	*payer;			/* the application's name of the payer */

	/* pay: "automatic", or "manual": authorise only */
	const char *capture_method;
	/* capture, void, refund: the PSP's name of what it is done to */
	const char *parent_reference;
	bool		final;			 /* capture: nothing more will be captured */
	const char *reason;			 /* refund: as in payment.claimed_task */
	int64		total_amount;	 /* capture: authorised in all, minor units */
	int64		captured_amount; /* capture: of that, before this one */

	/* dispute_evidence: a JSON object of texts */
	const char *evidence;

	/* register: where the page sends the payer, and until when it is open */
	const char *success_url;
	const char *cancel_url;
	const char *locale;
	int64		expires_at_s; /* Unix time, the same for all tries; 0: any */

	/*
	 * verify: a JSON object of those of its headers that the signature needs,
	 * names in lower case, and its bytes, which are valid JSON.
	 */
	const char *webhook_headers;
	const char *webhook_body;
	int			webhook_length;

	/*
	 * register, close: the page takes no money, but a payment method with which
	 * the payment's orders are paid then
	 */
	bool setup;

	/*
	 * A send: an earlier request under this key may have been executed, so
	 * that an error that only this one meets says nothing of the first.
	 */
	bool repeated;

	/* values of the adapter's config_keys, in their order; NULL: not set */
	const char *config[PSP_MAX_CONFIG];

	/* a lookup: when it was made, by the PSP's clock; Unix time, 0: any */
	int64 made_from_s;
	int64 made_to_s;

	/*
	 * Where a conversation of several requests goes on (the adapter's own
	 * words), and how many of them have been answered.
	 */
	const char *cursor;
	int			answer_count;
} PspTask;

typedef struct PspRequest
{
	const char	  *method;
	StringInfoData url;
	StringInfoData body; /* length 0: none */
	const char	  *headers[PSP_MAX_HEADERS];
	int			   header_count;
} PspRequest;

typedef enum PspRetryAdvice
{
	PSP_RETRY_UNSAID,
	PSP_RETRY_NO,
	PSP_RETRY_YES
} PspRetryAdvice;

/* A whole HTTP answer; failures of the transport never get here. */
typedef struct PspResponse
{
	int			status;
	int64		retry_after_ms; /* -1: not said */
	const char *headers;		/* the header block as received */
	int			headers_length;
	const char *body;
	int			body_length;
} PspResponse;

/* The kinds of payment.attempt_outcome, in the type's words. */
typedef enum PspOutcomeKind
{
	PSP_UNKNOWN, /* zero, so that what nobody set is not known */
	PSP_SUCCEEDED,
	PSP_PENDING,
	PSP_DECLINED,
	PSP_FAILED,
	PSP_RETRY,
	PSP_NOT_FOUND,
	PSP_KEY_SPENT,
	PSP_AUTHORIZED, /* reserved, nothing moved */
	PSP_VOIDED,
	PSP_EXPIRED, /* what was authorised is free again, by time; nobody paid */
	PSP_REQUIRES_ACTION, /* the payer has a page to pay at; nothing moved */
	PSP_TOKENIZED,		 /* ... has left a payment method there; the same */
	PSP_MORE /* another request is needed: build it with the cursor */
} PspOutcomeKind;

/* The words of payment.attempt_outcome.decline_class */
typedef enum PspDeclineClass
{
	PSP_DECLINE_UNSAID,
	PSP_DECLINE_SOFT, /* may succeed later, or at another PSP */
	PSP_DECLINE_HARD, /* never with this payment method */
	PSP_DECLINE_AUTHENTICATION_REQUIRED, /* not without the payer */
	PSP_DECLINE_NOT_APPLICABLE /* nobody declined: the request is refused */
} PspDeclineClass;

/* What an outcome says of the PSP itself, for whoever watches its health */
typedef enum PspErrorClass
{
	PSP_ERROR_NONE,		  /* it works, whatever it said of the payment */
	PSP_ERROR_CONNECTION, /* no connection, or one not to be trusted */
	PSP_ERROR_LOST,		  /* sent, and no answer came */
	PSP_ERROR_ANSWER,	  /* an answer that its protocol does not have */
	PSP_ERROR_SERVER,	  /* 5xx */
	PSP_ERROR_BUSY,		  /* too many requests, or the key is in use */
	PSP_ERROR_ACCESS,	  /* it refuses our key */
	PSP_ERROR_REQUEST	  /* it refuses this one request */
} PspErrorClass;

typedef struct PspOutcome
{
	PspOutcomeKind kind;
	const char	  *reference;

	/* of this operation alone, whatever was captured or refunded before it */
	bool			has_amount;
	int64			amount;
	char			currency[4]; /* "" when not said */
	const char	   *error_code;
	const char	   *error_message;
	int64			retry_after_ms; /* -1: as the backoff says */
	const char	   *cursor;			/* with PSP_MORE */
	PspDeclineClass decline_class;	/* when declined or failed */
	PspErrorClass	error_class;
	int64			authorized_until_s; /* Unix time; 0: not said */
	const char	   *child_reference;	/* of the authorisation or capture */
	const char	   *hosted_url;			/* with PSP_REQUIRES_ACTION */
	int64			hosted_until_s;		/* Unix time; 0: not said */

	/* of amount, in the currency in which the PSP pays it out */
	bool		has_settled_amount; /* before the fee */
	int64		settled_amount;
	bool		has_psp_fee;
	int64		psp_fee;
	char		settled_currency[4]; /* "" when not said */
	const char *exchange_rate;		 /* a decimal number */
	const char *payment_method;		 /* that the payer chose at the page */
} PspOutcome;

/* What an event is about: the words of payment.webhook_event.about */
typedef enum PspEventAbout
{
	PSP_EVENT_OTHER,
	PSP_EVENT_PAY,	   /* a payment order */
	PSP_EVENT_CAPTURE, /* ... and what was captured of it later */
	PSP_EVENT_VOID,	   /* ... or set free */
	PSP_EVENT_REFUND,
	PSP_EVENT_DISPUTE,
	PSP_EVENT_PAYOUT,
	PSP_EVENT_SESSION /* a hosted page */
} PspEventAbout;

/* What an event says of the money of a dispute */
typedef enum PspDisputeMoney
{
	PSP_DISPUTE_UNSAID,
	PSP_DISPUTE_TAKEN,
	PSP_DISPUTE_RETURNED
} PspDisputeMoney;

/* What an event says of a dispute; the amount is that of the outcome */
typedef struct PspDispute
{
	const char	   *stage;	/* our words; NULL: not said, or as it was */
	const char	   *status; /* our words; NULL: not said, or as it was */
	PspDisputeMoney money;

	/* what it has cost so far in all; not said: as the settings have it */
	bool  has_fee;
	int64 fee;
	char  fee_currency[4];

	const char *reason;		  /* the PSP's word */
	int64		respond_by_s; /* Unix time; 0: not said */

	/* of two events of one dispute the later one has the higher number */
	int64 sequence;
} PspDispute;

/*
 * One event of a webhook.  What names our object, its amount and its outcome
 * comes from what is signed.  Pointers are NULL for what it does not say.
 */
typedef struct PspEvent
{
	const char	 *id;	/* never given twice by the PSP */
	const char	 *type; /* the PSP's word */
	int64		  sent_at_s;
	const char	 *account;	  /* at the PSP */
	bool		  is_foreign; /* that account is none that the settings name */
	PspEventAbout about;
	const char	 *object_id; /* what our request named: mostly a UUID */
	int			  attempt_no;
	const char	 *reference;
	const char	 *parent_reference; /* of what the object belongs to */
	bool		  has_outcome;
	PspOutcome	  outcome; /* its reference is not used */
	PspDispute	  dispute; /* of PSP_EVENT_DISPUTE only */

	/* the bytes of the body that are this event alone */
	int start;
	int length;

	/*
	 * Where each event is signed by itself: what is, and with what.  If a
	 * field holds the separator, there is also the text in which that is not
	 * escaped; it can be read in more than one way.
	 */
	const char *signed_text;
	const char *ambiguous_text;
	const char *signature;
	bool		is_ambiguous; /* set by who found that this text was signed */
} PspEvent;

#define PSP_EVENTS_MAX 2000

typedef struct PspEvents
{
	PspEvent *events;
	int		  count;
} PspEvents;

/* How a PSP proves that a webhook is its own */
typedef enum PspSigning
{
	PSP_SIGNING_NONE,	/* it sends none that could be read */
	PSP_SIGNING_STRIPE, /* Stripe-Signature: time and body */
	PSP_SIGNING_ADYEN,	/* in each item, or HmacSignature: body */
	PSP_SIGNING_ASKED	/* it has to be asked */
} PspSigning;

/* How to find out what became of a request, by operation */
typedef struct PspInquiry
{
	/* a lookup may ask for what the PSP has named */
	bool by_reference;

	/*
	 * A lookup may search the PSP's listing for what it has not.  If not, the
	 * one way to ask is the same send again, for as long as its key lives.
	 */
	bool by_listing;
} PspInquiry;

/* What a PSP answers a request for an access token with */
typedef struct PspToken
{
	const char *value; /* NULL: none; error_code and error_message say why */
	int64		lifetime_s;
	const char *error_code;
	const char *error_message;
	bool		is_refused; /* the secret is wrong: no use asking soon */
} PspToken;

typedef struct PspAdapter
{
	const char *name;

	/* idempotency keys: the PSP takes them up to this long ... */
	int key_length_max; /* bytes */

	/* ... and keeps them: surely, and at most by agreement; 0: any */
	int key_lifetime_s;
	int key_lifetime_max_s;

	/* what it can be asked to do; nothing else is ever sent through it */
	bool performs[PSP_OPERATIONS];
	/* whether an authorisation may be captured in several parts */
	bool several_captures;
	/* whether a hosted page may keep a payment method for several orders */
	bool page_keeps_method;

	PspInquiry inquiry[PSP_OPERATIONS];

	/* names of its settings in payment.psp.config, ended by NULL */
	const char *const *config_keys;

	/*
	 * What is wrong with the settings, values in the order of config_keys;
	 * NULL: nothing.
	 */
	const char *(*check_config)(const char *const *values, bool payouts);

	/*
	 * How to ask for an access token and what the answer is; NULL when the
	 * secret itself is presented.  Where there are tokens, build is called
	 * with the token for the secret.
	 */
	void (*build_token)(const char *base_url, const char *secret,
						PspRequest *request);
	void (*read_token)(const PspResponse *response, PspToken *token);

	/*
	 * The next request for the task.  False when there can be none: the
	 * outcome says why then, and nothing is sent.
	 */
	bool (*build)(const PspTask *task, const char *base_url,
				  const char *secret, PspRequest *request,
				  PspOutcome *outcome);
	void (*read)(const PspTask *task, const PspResponse *response,
				 PspOutcome *outcome);

	/*
	 * The events of a webhook's body; config as in PspTask.  False when it is
	 * none.  Unknown types are events too, about nothing that counts.
	 */
	PspSigning signing;
	bool (*read_events)(const char *body, int length,
						const char *const *config, PspEvents *events);
} PspAdapter;

/* NULL when there is no adapter of that name */
extern const PspAdapter *psp_adapter(const char *name);
extern const PspAdapter	 psp_stripe;
extern const PspAdapter	 psp_adyen;
extern const PspAdapter	 psp_paypal;

/*
 * What the outcome of an answer with that status says of the PSP, unless the
 * adapter has said so.
 */
extern void psp_classify(PspOutcome *outcome, int status);

/* "adyen, paypal, stripe": for people */
extern char *psp_adapter_names(void);

/* the word of payment.task.operation, and back: false when there is none */
extern const char *psp_operation_name(PspOperation operation);
extern bool		   psp_operation_of(const char *name, PspOperation *operation);
extern const char *psp_outcome_name(PspOutcomeKind kind);
/* NULL for PSP_DECLINE_UNSAID */
extern const char *psp_decline_class_name(PspDeclineClass class);
extern const char *psp_error_class_name(PspErrorClass class);
extern const char *psp_event_about_name(PspEventAbout about);

#endif /* PAYMENT_PSP_H */
