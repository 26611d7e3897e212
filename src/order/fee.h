/*-------------------------------------------------------------------------
 *
 * fee.h
 *	  What the platform takes of an order: which schedule, and how much.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_FEE_H
#define PAYMENT_FEE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "order/volume.h"

#define FEE_MAX_BASIS_POINTS 10000

/* from that much volume on it is these instead of the schedule's own */
typedef struct FeeTier
{
	int64 from_volume;
	int64 fixed;
	int32 basis_points;
} FeeTier;

typedef struct FeeSchedule
{
	pg_uuid_t	 id;
	bool		 has_seller;
	bool		 has_psp;
	pg_uuid_t	 psp_id;
	const char	*payment_method; /* a pattern, or NULL */
	bool		 has_currency;
	int64		 fixed;
	int32		 basis_points;
	bool		 has_min_fee;
	int64		 min_fee;
	bool		 has_max_fee;
	int64		 max_fee;
	FeeTier		*tiers; /* ascending by from_volume */
	int			 tier_count;
	VolumeWindow volume_window;
} FeeSchedule;

typedef enum FeeLimit
{
	FEE_LIMIT_NONE,
	FEE_LIMIT_MIN_FEE,
	FEE_LIMIT_MAX_FEE,
	FEE_LIMIT_AMOUNT
} FeeLimit;

/* A fee, and how it came about. */
typedef struct Fee
{
	int64		   fee;
	const FeeTier *tier; /* or NULL: the schedule's own rate */
	FeeLimit	   limit;
} Fee;

/*
 * Joined to a query, the schedules in force that may concern a seller and a
 * currency (expressions of the query) at a time: a row for each, else one of
 * NULLs.  One scan of fee_schedule_search_idx probes with and without each of
 * the two; four scans, one for each way, cost a tenth of a checkout.
 */
#define FEE_COLUMNS                                               \
	"f.id, f.seller_id, f.psp_id, f.payment_method, f.currency, " \
	"f.fixed, f.basis_points, f.min_fee, f.max_fee, f.tiers, "    \
	"f.volume_window"
#define FEE_NO_SELLER "'00000000-0000-0000-0000-000000000000'::uuid"
#define FEE_JOIN(seller, currency, at)                              \
	"LEFT JOIN payment.fee_schedule AS f"                           \
	" ON COALESCE(f.seller_id, " FEE_NO_SELLER ")"                  \
	"  = ANY (ARRAY[" seller ", " FEE_NO_SELLER "])"                \
	" AND COALESCE(f.currency, '') = ANY (ARRAY[" currency ", ''])" \
	" AND f.effective_until > " at " AND f.effective_from <= " at " "

/* the schedule in these columns of a row; false: there is none */
extern bool fee_schedule_read(uint64 row, int first_column,
							  FeeSchedule *schedule);

/*
 * The one that counts for a payment at that PSP, or NULL.  Without a PSP
 * (NULL), or a payment method, those that ask for one do not.
 */
extern const FeeSchedule *fee_choose(const FeeSchedule *schedules, int count,
									 const pg_uuid_t *psp_id,
									 const char		 *payment_method);

/* volume: what the seller captured before, where the schedule has tiers */
extern void fee_compute(const FeeSchedule *schedule, int64 amount,
						int64 volume, Fee *fee);

/* fee_tier.c: from JSON, PY001 or PY006 when they are no tiers, and back */
extern FeeTier *fee_tiers_read(Jsonb *document, int *count);
extern Jsonb   *fee_tiers_write(const FeeTier *tiers, int count);

#endif /* PAYMENT_FEE_H */
