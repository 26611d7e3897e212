/*-------------------------------------------------------------------------
 *
 * statements.h
 *	  The SQL of a reconciliation run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_STATEMENTS_H
#define PAYMENT_STATEMENTS_H

extern const char judge_lines_sql[];
extern const char lock_exchanged_sql[];
extern const char exchanged_charges_sql[];
extern const char exchanged_refunds_sql[];
extern const char update_exchanged_orders_sql[];
extern const char update_exchanged_refunds_sql[];
extern const char forget_fees_sql[];
extern const char find_missing_sql[];
extern const char set_file_status_sql[];
extern const char find_unidentified_sql[];
extern const char insert_run_sql[];

#endif /* PAYMENT_STATEMENTS_H */
