/*-------------------------------------------------------------------------
 *
 * payment.h
 *	  What every room of the extension shares: settings and the wake-up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_H
#define PAYMENT_H

#include "errcodes.h"

/* what a time partition covers */
typedef enum PartitionInterval
{
	PARTITION_MONTH,
	PARTITION_DAY
} PartitionInterval;

/* settings, defined in payment.c */
extern int	 payment_shard_id;
extern char *payment_secrets_dir;
extern char *payment_ca_file;
extern int	 payment_max_orders_per_payment;
extern int	 payment_max_events_per_submit;
extern int	 payment_max_routing_rules;
extern int	 payment_max_fee_schedules;
extern int	 payment_max_fee_tiers;
extern int	 payment_max_attempts_per_order;
extern int	 payment_max_metadata_bytes;
extern int	 payment_max_text_bytes;
extern int	 payment_max_settlement_bytes;
extern int	 payment_exchange_tolerance_bp;
extern int	 payment_max_balance_slots;
extern int	 payment_batch_size;
extern int	 payment_max_in_flight;
extern int	 payment_max_body_bytes;
extern int	 payment_poll_interval_ms;
extern int	 payment_lease_ms;
extern int	 payment_max_webhook_size_kb;
extern int	 payment_webhook_tolerance_s;
extern int	 payment_webhook_lock_timeout_ms;
extern int	 payment_max_undo_refunds;
extern int	 payment_undo_refund_delay_ms;
extern int	 payment_authorization_grace_s;
extern int	 payment_max_webhook_rejections;
extern int	 payment_max_unverified_webhooks;
extern int	 payment_max_parked_webhooks;
extern int	 payment_max_dispute_evidence_bytes;
extern int	 payment_webhook_parking_time_s;
extern int	 payment_webhook_verify_attempts;
extern int	 payment_webhook_verify_delay_ms;
extern int	 payment_max_databases;
extern bool	 payment_worker_enabled;
extern int	 payment_partition_interval; /* PartitionInterval */
extern int	 payment_partitions_ahead;
extern bool	 payment_require_sync_standby;
extern char *payment_failover_standbys;
extern char *payment_machine_id;
extern bool	 payment_allow_drop;
extern int	 payment_max_event_consumers;
extern int	 payment_max_event_deliveries;
extern int	 payment_max_queued_events;
extern int	 payment_event_retention_days;

/*
 * Wake this database's dispatcher when the current transaction commits; never
 * throws, does nothing when the worker is not preloaded.
 */
extern void payment_wake_dispatcher_at_commit(void);

/*
 * Tell the dispatcher, and through it who listens to payment_event, that there
 * are new events when the current transaction commits; as above.
 */
extern void payment_announce_events_at_commit(void);

/* src/ledger/hint.c: shared memory, from the hooks of payment.c */
extern void hint_request_memory(void);
extern void hint_attach_memory(void);

#endif /* PAYMENT_H */
