/*
 * book.h
 *		The book: every object the sandbox knows, in order of creation.
 *
 * Objects are numbered from 0 in their order of creation and refer to each
 * other by number; NONE is no object. Objects are never deleted or moved.
 * One lock guards the book and everything else that requests share.
 */
#ifndef SANDBOX_BOOK_H
#define SANDBOX_BOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "test_method.h"

#define ID_SIZE 32
#define NONE UINT32_MAX
#define AMOUNT_MAX INT64_C(999999999999)

/* Whose protocol it was that made an object. */
typedef enum Psp
{
	PSP_STRIPE,
	PSP_ADYEN,
	PSP_PAYPAL,
	PSP_COUNT
} Psp;

typedef struct MetaItem
{
	char *key;
	char *value;
} MetaItem;

typedef struct Metadata
{
	uint32_t  count;
	MetaItem *items;
} Metadata;

typedef enum IntentStatus
{
	INTENT_REQUIRES_PAYMENT_METHOD,
	INTENT_REQUIRES_CONFIRMATION,
	INTENT_REQUIRES_ACTION,
	INTENT_PROCESSING,
	INTENT_REQUIRES_CAPTURE,
	INTENT_CANCELED,
	INTENT_SUCCEEDED
} IntentStatus;

typedef enum CaptureMethod
{
	CAPTURE_AUTOMATIC,
	CAPTURE_AUTOMATIC_ASYNC,
	CAPTURE_MANUAL
} CaptureMethod;

typedef enum AutomaticMethods
{
	AUTOMATIC_NOT_GIVEN,
	AUTOMATIC_DISABLED,
	AUTOMATIC_ENABLED,
	AUTOMATIC_NO_REDIRECTS
} AutomaticMethods;

typedef struct Intent
{
	char	 id[ID_SIZE];
	char	 secret[ID_SIZE];
	uint32_t number;
	uint32_t latest_charge;
	uint8_t	 psp;
	uint8_t	 status;
	uint8_t	 capture_method;
	uint8_t	 automatic_payment_methods;
	bool	 failed;			/* last_payment_error is set */
	bool	 not_authenticated; /* the payer failed to, last time */
	uint32_t session;			/* the page it is paid on, or NONE */
	uint32_t customer;			/* or NONE */
	int32_t	 currency;
	int64_t	 amount;
	int64_t	 amount_capturable;
	int64_t	 amount_received;
	int64_t	 created_ms;
	int64_t	 canceled_ms;
	int64_t	 due_ms; /* when processing ends, 0 when it does not run */
	char	*payment_method;
	char	*description;
	char	*transfer_group;
	char	*return_url;
	char	*cancellation_reason;
	char	*reference; /* the merchant's own, where there is such a field */
	Metadata metadata;
} Intent;

typedef enum ChargeStatus
{
	CHARGE_PENDING,
	CHARGE_AUTHORIZED,
	CHARGE_VOIDED,
	CHARGE_SUCCEEDED,
	CHARGE_FAILED,
	CHARGE_CAPTURED /* by charges of their own */
} ChargeStatus;

typedef struct Charge
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint32_t intent;
	uint32_t balance_tx;	/* of the last capture */
	uint32_t dispute;		/* the last one, or NONE */
	uint32_t authorization; /* the charge that it captures, or NONE */
	uint32_t last_capture;	/* of an authorisation */
	bool	 is_final;
	uint8_t	 status;
	int32_t	 currency;
	int64_t	 amount;
	int64_t	 amount_captured;
	int64_t	 amount_refunded;
	int64_t	 created_ms;
	char	*payment_method;
	char	*idempotency_key;
	char	*invoice_id; /* of a PayPal capture; NULL: the order's */
} Charge;

typedef enum PayoutStatus
{
	PAYOUT_PENDING,
	PAYOUT_IN_TRANSIT,
	PAYOUT_PAID,
	PAYOUT_CANCELED,
	PAYOUT_FAILED
} PayoutStatus;

typedef struct Payout
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint32_t balance_tx;
	uint32_t failure_balance_tx;
	uint32_t settlement; /* of an automatic payout */
	uint8_t	 psp;
	uint8_t	 status;
	bool	 instant;
	bool	 returned;	/* failed after it was paid */
	bool	 unclaimed; /* nobody there to take it */
	int32_t	 currency;
	int64_t	 amount;
	int64_t	 created_ms;
	int64_t	 arrival_ms;
	int64_t	 due_ms; /* when the status moves on, 0 when it does not */
	char	*destination;
	char	*description;
	char	*idempotency_key;
	char	*reference;
	char	*batch;	  /* the sender's name for its batch */
	char	*account; /* what it is paid from */
	Metadata metadata;
} Payout;

/* What is done to a charge later, by a request of its own. */
typedef enum ModificationKind
{
	MODIFY_CAPTURE,
	MODIFY_REFUND,
	MODIFY_REVERSAL,
	MODIFY_CANCEL
} ModificationKind;

typedef enum ModificationStatus
{
	MODIFICATION_PENDING,
	MODIFICATION_SUCCEEDED,
	MODIFICATION_FAILED,
	MODIFICATION_REQUIRES_ACTION,
	MODIFICATION_CANCELED
} ModificationStatus;

typedef struct Modification
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint32_t charge;
	uint32_t balance_tx;
	uint32_t failure_balance_tx;
	uint8_t	 psp;
	uint8_t	 kind;
	uint8_t	 status;
	bool	 fails; /* once it is due */
	int32_t	 currency;
	int64_t	 amount; /* of a reversal 0: all there is */
	int64_t	 created_ms;
	int64_t	 due_ms; /* when its outcome is decided, 0 once it is */
	char	*reference;
	char	*reason;
	char	*idempotency_key;
	Metadata metadata;
} Modification;

typedef enum DisputeStatus
{
	DISPUTE_WARNING_NEEDS_RESPONSE,
	DISPUTE_WARNING_UNDER_REVIEW,
	DISPUTE_WARNING_CLOSED,
	DISPUTE_NEEDS_RESPONSE,
	DISPUTE_UNDER_REVIEW,
	DISPUTE_WON,
	DISPUTE_LOST,
	DISPUTE_PREVENTED
} DisputeStatus;

typedef struct Dispute
{
	char	  id[ID_SIZE];
	uint32_t  number;
	uint32_t  charge;
	uint8_t	  status;
	uint8_t	  then; /* its status when it is due */
	uint8_t	  reason;
	bool	  withdrawn; /* is the money gone? */
	int32_t	  currency;
	int64_t	  amount;
	int64_t	  created_ms;
	int64_t	  due_ms; /* when it moves by itself, 0 when it does not */
	int64_t	  respond_by_ms;
	uint32_t  submissions;
	uint32_t  tx_count;
	uint32_t *txs;
	Metadata  evidence;
	Metadata  metadata;
} Dispute;

/* Somebody who pays again and again. */
typedef struct Customer
{
	char	 id[ID_SIZE];
	uint32_t number;
	int64_t	 created_ms;
	char	*email;
	char	*name;
	Metadata metadata;
} Customer;

/* A test payment method that a customer has saved. */
typedef struct SavedMethod
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint32_t customer;
	int64_t	 created_ms;
	char	*method;
} SavedMethod;

/* How it came to be saved. */
typedef struct Setup
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint32_t customer; /* or NONE */
	uint32_t method;   /* NONE: not yet */
	int64_t	 created_ms;
	Metadata metadata;
} Setup;

typedef enum SessionStatus
{
	SESSION_OPEN,
	SESSION_COMPLETE,
	SESSION_EXPIRED
} SessionStatus;

/* A page on which a payer pays, or saves a payment method. */
typedef struct Session
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint32_t intent;   /* NONE until the first attempt */
	uint32_t setup;	   /* NONE unless it only saves a payment method */
	uint32_t customer; /* or NONE */
	uint8_t	 psp;
	uint8_t	 status;
	uint8_t	 capture_method;
	bool	 makes_customer;
	bool	 saves_method;
	int32_t	 currency;
	int64_t	 amount;
	int64_t	 created_ms;
	int64_t	 due_ms; /* when it expires, 0 once it is over */
	int64_t	 expires_ms;
	char	*host; /* by which its page was asked for */
	char	*success_url;
	char	*cancel_url;
	char	*reference;
	char	*email;
	char	*items;	 /* what is paid, a line each */
	char	*method; /* that waits to be authenticated */
	char	*description;
	char	*transfer_group;
	char	*data; /* what the merchant's page would need */
	Metadata metadata;
	Metadata intent_metadata;
} Session;

/* A webhook: sent when there is somebody to send it to. */
typedef struct Notification
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint8_t	 psp;
	int64_t	 created_ms;
	int64_t	 delivered_ms; /* 0: not yet */
	int64_t	 tried_ms;
	int64_t	 due_ms; /* not before */
	uint32_t attempts;
	uint8_t	 copies;	/* how often it is still sent once confirmed */
	bool	 forged;	/* signed with a key that is not ours */
	bool	 lost;		/* never sent at all */
	bool	 overtaken; /* held back until a later one was sent */
	char	*event;
	char	*signature; /* for the header, when it is not in the body */
	char	*body;
} Notification;

typedef enum BalanceTxType
{
	TX_CHARGE,
	TX_PAYOUT,
	TX_PAYOUT_CANCEL,
	TX_PAYOUT_FAILURE,
	TX_REFUND,
	TX_REFUND_FAILURE,
	TX_DISPUTE,
	TX_DISPUTE_REVERSAL,
	TX_CAPTURE_FAILURE /* not at Stripe */
} BalanceTxType;

typedef struct BalanceTx
{
	char	 id[ID_SIZE];
	uint32_t number;
	uint32_t source;	 /* charge, modification, payout or dispute */
	uint32_t settlement; /* the one it has gone into, or NONE */
	uint8_t	 type;
	int32_t	 currency;
	int64_t	 amount;
	int64_t	 fee;
	int64_t	 rate; /* from the charge's currency, 0 when it is the same */
	int64_t	 created_ms;
} BalanceTx;

typedef enum PlantKind
{
	PLANT_NOTHING,
	PLANT_AMOUNT,
	PLANT_MISSING,
	PLANT_UNKNOWN,
	PLANT_DUPLICATE,
	PLANT_FEE,
	PLANT_CURRENCY,
	PLANT_COUNT
} PlantKind;

/* A line that differs from the truth, or a charge whose line is missing. */
typedef struct Plant
{
	uint8_t	 kind;
	uint32_t charge; /* the charge it copies */
	char	 balance_tx_id[ID_SIZE];
	char	 charge_id[ID_SIZE];
	char	 intent_id[ID_SIZE];
} Plant;

/* Plants stand in order of kind "after" the line of their charge. */
typedef struct Settlement
{
	char	  id[ID_SIZE];
	uint32_t  number;
	int64_t	  created_ms;
	uint32_t  tx_from; /* balance transactions [from, to) belong to it */
	uint32_t  tx_to;
	uint32_t  charge_count;
	uint32_t *charges;
	uint32_t  other_count;
	uint32_t *others; /* balance transactions that are no charges' */
	uint32_t  plant_count;
	Plant	 *plants;
	uint32_t  payout_count;
	uint32_t *payouts; /* one automatic payout for each currency */
} Settlement;

/* Objects of one kind. */
typedef struct Shelf
{
	void   **objects;
	uint32_t count;
	uint32_t cap;
} Shelf;

typedef struct Book
{
	Shelf	 intents;
	Shelf	 charges;
	Shelf	 payouts;
	Shelf	 balance_txs;
	Shelf	 settlements;
	Shelf	 modifications;
	Shelf	 notifications;
	Shelf	 customers;
	Shelf	 saved_methods;
	Shelf	 setups;
	Shelf	 sessions;
	Shelf	 disputes;
	uint32_t first_unsettled; /* no balance transaction before it is open */
	int64_t	 now_ms;		  /* as of the last lock; never goes back */
} Book;

extern Book book;

/*
 * Taking the lock brings the book up to the present (what was due happens);
 * giving it back first writes what changed to the journal.
 */
extern void book_lock(void);
extern void book_unlock(void);

/* New objects, numbered and stamped, with an id of their own. */
extern Intent		*book_new_intent(Psp psp);
extern Charge		*book_new_charge(Intent *intent);
extern Payout		*book_new_payout(Psp psp);
extern BalanceTx	*book_new_balance_tx(BalanceTxType type, uint32_t source,
										 int32_t currency, int64_t amount,
										 int64_t fee);
extern Settlement	*book_new_settlement(void);
extern Modification *book_new_modification(Psp psp, ModificationKind kind,
										   const Charge *charge);
extern Notification *book_new_notification(Psp psp);
extern Customer		*book_new_customer(void);
extern SavedMethod	*book_new_saved_method(void);
extern Setup		*book_new_setup(void);
extern Session		*book_new_session(Psp psp);
extern Dispute		*book_new_dispute(const Charge *charge);

/* NULL when nobody knows the id, or only another PSP does. */
extern Intent		*book_find_intent(Psp psp, const char *id);
extern Charge		*book_find_charge(Psp psp, const char *id);
extern Payout		*book_find_payout(Psp psp, const char *id);
extern Modification *book_find_modification(Psp psp, const char *id);
extern Notification *book_find_notification(Psp psp, const char *id);
extern Customer		*book_find_customer(const char *id);
extern SavedMethod	*book_find_saved_method(const char *id);
extern Setup		*book_find_setup(const char *id);
extern Session		*book_find_session(Psp psp, const char *id);
extern Dispute		*book_find_dispute(Psp psp, const char *id);
extern BalanceTx	*book_find_balance_tx(const char *id);
extern Settlement	*book_find_settlement(const char *id);

extern Intent		*book_intent(uint32_t number);
extern Charge		*book_charge(uint32_t number);
extern Payout		*book_payout(uint32_t number);
extern BalanceTx	*book_balance_tx(uint32_t number);
extern Settlement	*book_settlement(uint32_t number);
extern Modification *book_modification(uint32_t number);
extern Notification *book_notification(uint32_t number);
extern Customer		*book_customer(uint32_t number);
extern SavedMethod	*book_saved_method(uint32_t number);
extern Setup		*book_setup(uint32_t number);
extern Session		*book_session(uint32_t number);
extern Dispute		*book_dispute(uint32_t number);

extern const char *psp_name(Psp psp);
extern Psp		   charge_psp(const Charge *charge);

/* As its PSP shows it: what tells the kinds apart in the book is not shown. */
extern const char *public_id(const char *id);

/* For the journal: makes the object known that it has filled. */
extern void book_shelve(Shelf *shelf, void *object, const char *id);

extern const char *metadata_get(const Metadata *metadata, const char *key);
extern void		   metadata_add(Metadata *metadata, const char *key,
								const char *value);
extern void		   metadata_set(Metadata *metadata, const char *key,
								const char *value);
extern void		   metadata_free(Metadata *metadata);

extern int64_t clock_ms(void);

#endif
