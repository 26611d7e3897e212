/*-------------------------------------------------------------------------
 *
 * capture.c
 *	  Take the money that was authorised: all of it, or a part; once, or in
 *	  several parts.
 *
 * What all captures of an order take together is never more than what was
 * authorised: this is checked under the order's lock, and no other capture is
 * begun until the PSP has said what became of this one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "money.h"
#include "order/batch.h"
#include "order/idempotency.h"
#include "order/typed_argument.h"
#include "order/withdraw.h"

PG_FUNCTION_INFO_V1(payment_capture);

typedef struct CaptureRequest
{
	pg_uuid_t	order_id;
	const char *key;
	bool		has_amount;
	int64		amount;
	bool		final;
} CaptureRequest;

static void
check_status(const Subject *subject)
{
	const char *status = subject->path.now;
	const char *hint = "Only what is authorised can be captured: pass capture "
					   "=> 'manual' to checkout().";

	if (strcmp(status, "authorized") == 0 ||
		strcmp(status, "partially_captured") == 0)
		return;
	if (strcmp(status, "capturing") == 0)
		hint = "A capture is under way: wait for its result.";
	else if (strcmp(status, "voiding") == 0 || strcmp(status, "voided") == 0)
		hint = "It has been voided: nothing is authorised any more.";
	else if (strcmp(status, "unknown") == 0)
		hint = "It is not known what became of it: it is being looked up.";
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("payment order cannot be captured"),
			 errdetail("Order %s is %s.", uuid_text(&subject->id), status),
			 errhint("%s", hint)));
}

static void
check_time(const Subject *subject)
{
	if (subject->authorized_until == 0 ||
		subject->authorized_until > GetCurrentTimestamp())
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
					errmsg("the authorisation has expired"),
					errdetail("It was good until %s.",
							  timestamptz_to_str(subject->authorized_until)),
					errhint("Make a new payment.")));
}

static void
check_amount(const Subject *subject, const CaptureRequest *request)
{
	int64 rest = subject->authorized_amount - subject->captured_amount;
	int	  exponent = currency_exponent(subject->currency);
	char  left[MONEY_TEXT_SIZE];
	char  wanted[MONEY_TEXT_SIZE];

	if (request->amount <= rest)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_CAPTURE_EXCEEDED),
			 errmsg("\"amount\" is more than is authorised"),
			 errdetail("Of order %s %s %s are left, asked for are %s.",
					   uuid_text(&subject->id),
					   money_format(rest, exponent, left), subject->currency,
					   money_format(request->amount, exponent, wanted)),
			 errhint("Capture at most what is left, or make another "
					 "payment.")));
}

static void
check_parts(const Subject *subject, const CaptureRequest *request)
{
	const PspAdapter *adapter = adapter_of(&subject->psp_id);
	bool			  all = request->amount ==
			   subject->authorized_amount - subject->captured_amount;

	check_performs(subject, OPERATION_CAPTURE);
	if (request->final || all || adapter == NULL || adapter->several_captures)
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
					errmsg("its PSP captures an authorisation only once"),
					errdetail("\"final\" is false, and the adapter \"%s\".",
							  adapter->name),
					errhint("Capture once, and let the rest go: pass final "
							"=> true.")));
}

static bool
take_key(const CaptureRequest *request, int32 *capture_no)
{
	Fingerprint fingerprint;
	uint8		digest[FINGERPRINT_SIZE];
	pg_uuid_t	answer[] = { request->order_id, number_as_id(*capture_no) };
	bool		is_new;

	fingerprint_begin(&fingerprint);
	fingerprint_text(&fingerprint, uuid_text(&request->order_id));
	fingerprint_text(&fingerprint,
					 request->has_amount
						 ? psprintf(INT64_FORMAT, request->amount)
						 : NULL);
	fingerprint_text(&fingerprint, request->final ? "final" : "not final");
	fingerprint_end(&fingerprint, digest);
	is_new = idempotency_take(request->key, "capture", digest, answer,
							  lengthof(answer));
	*capture_no = id_as_number(&answer[1]);
	return is_new;
}

static int32
capture_locked(CaptureRequest *request, SubjectSet *set, Subject *subject)
{
	int32 capture_no = subject->capture_no + 1;

	if (!take_key(request, &capture_no))
		return capture_no;
	check_status(subject);
	check_time(subject);
	if (!request->has_amount)
		request->amount =
			subject->authorized_amount - subject->captured_amount;
	check_amount(subject, request);
	check_parts(subject, request);
	if (!subject_step(subject, "capturing", CAUSE_API))
		elog(ERROR, "an authorised order cannot be captured");
	subject->capture_no = capture_no;
	subject->operation_no++;
	subject->capturing_amount = request->amount;
	subject->capture_final = request->final;
	subject->failure_code = NULL;
	subject->failure_message = NULL;
	subjects_write(set);
	task_queue(&subject->psp_id, OPERATION_CAPTURE, &subject->id);
	return capture_no;
}

static void
read_request(FunctionCallInfo fcinfo, CaptureRequest *request)
{
	request->order_id = *uuid_argument(fcinfo, 0, "payment_order");
	request->key = idempotency_argument(fcinfo, 1);
	request->has_amount = !PG_ARGISNULL(2);
	if (request->has_amount)
		request->amount = PG_GETARG_INT64(2);
	if (request->has_amount && request->amount <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
				 errmsg("\"amount\" is not possible"),
				 errdetail("It is " INT64_FORMAT ".", request->amount),
				 errhint("Pass minor units above zero, or null for all that "
						 "is left.")));
	if (PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"final\" must not be null"),
						errdetail("It says whether the rest is let go."),
						errhint("Pass true or false.")));
	request->final = PG_GETARG_BOOL(3);
}

/*
 * payment.capture(payment_order, idempotency_key, amount, final) -> integer:
 * the number of the capture
 */
Datum
payment_capture(PG_FUNCTION_ARGS)
{
	CaptureRequest request;
	SubjectSet	   set;
	Subject		  *subject;
	int32		   capture_no;
	int			   nest_level;

	read_request(fcinfo, &request);
	nest_level = batch_begin();
	subject = order_lock(&set, &request.order_id, OPERATION_CAPTURE);
	capture_no = capture_locked(&request, &set, subject);
	batch_end(nest_level);
	PG_RETURN_INT32(capture_no);
}
