/*
 * adyen.h
 *		Adyen's checkout and transfers.
 */
#ifndef SANDBOX_ADYEN_H
#define SANDBOX_ADYEN_H

#include "book.h"
#include "page.h"
#include "request.h"

#define ADYEN_REFERENCE_MAX 80

/* Where a test payment method leads. */
typedef enum AdyenOutcome
{
	ADYEN_AUTHORISED,
	ADYEN_REFUSED,
	ADYEN_ERROR,
	ADYEN_CANCELLED,
	ADYEN_REDIRECT,
	ADYEN_CHALLENGE,
	ADYEN_PENDING,
	ADYEN_RECEIVED
} AdyenOutcome;

typedef struct AdyenMethod
{
	AdyenOutcome outcome;
	bool		 fails_later; /* pending or received, then refused */
	const char	*reason;	  /* of a refusal, now or later */
	const char	*reason_code;
} AdyenMethod;

/* False when nobody knows it. */
extern bool adyen_method_find(const char *name, AdyenMethod *method);

extern bool adyen_payment_prepare(Request *request);
extern void adyen_payment_create(Request *request);

extern bool adyen_session_prepare(Request *request);
extern void adyen_session_create(Request *request);
extern bool adyen_session_prepare_get(Request *request);
extern void adyen_session_get(Request *request);

extern const PageOwner adyen_page;

/* Pays, or not, with this method; its resultCode. The caller journals. */
extern const char *adyen_attempt(Intent *intent, Charge *charge,
								 const AdyenMethod *method);

extern bool adyen_prepare_capture(Request *request);
extern bool adyen_prepare_cancel(Request *request);
extern bool adyen_prepare_refund(Request *request);
extern bool adyen_prepare_reversal(Request *request);
extern void adyen_modify(Request *request);

extern bool adyen_transfer_prepare(Request *request);
extern void adyen_transfer_create(Request *request);
extern bool adyen_transfer_prepare_list(Request *request);
extern void adyen_transfer_list(Request *request);
extern bool adyen_transfer_prepare_get(Request *request);
extern void adyen_transfer_get(Request *request);

/* Called when their time has come. */
extern void adyen_payment_finish(Intent *intent);
extern void adyen_modification_finish(Modification *modification);
extern void adyen_transfer_moved(const Payout *payout);

/* Replaces the answer by an error; always false. */
extern bool adyen_error(Request *request, int status, const char *code,
						const char *type, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
extern bool adyen_invalid(Request *request, const char *code, const char *fmt,
						  ...) __attribute__((format(printf, 3, 4)));

/* Fields of a body; what is wrong is answered and gives false. */
extern bool adyen_merchant(Request *request);
extern bool adyen_amount(Request *request, int64_t *amount, int *currency);
extern bool adyen_reference(Request *request, bool required,
							const char **reference);
extern bool adyen_prepare_metadata(Request *request);
extern void adyen_copy_metadata(const Request *request, Metadata *metadata);
extern bool adyen_wants_manual_capture(Request *request);
extern bool adyen_known(Request *request, const char *const *names);

extern void adyen_amount_json(Buf *b, int32_t currency, int64_t amount);

/* Puts a standard notification into the outbox; reason NULL: success. */
typedef struct AdyenEvent
{
	const char *code;
	const char *psp_reference;
	const char *original_reference; /* NULL: it is about itself */
	const char *merchant_reference;
	int32_t		currency;
	int64_t		amount;
	const char *reason;
	const char *action; /* of a CANCEL_OR_REFUND */
	const char *note;	/* the reason of what succeeded */
	const char *dispute_status;
	bool		can_modify;
} AdyenEvent;

extern void adyen_notify(const AdyenEvent *event);

/* What happens without having been asked for. */
extern void control_adyen_events(Request *request);

/* The same for the platform's notifications, whose body is signed whole. */
extern void adyen_notify_platform(const char *type, const Buf *body);

#endif
