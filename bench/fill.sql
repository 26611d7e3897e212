-- Entries that are there before: 1,000 journals of two entries a call, a
-- commit each.  Variable: journals.  Ids are those of now, so that all of them
-- lie in the partition that the benchmark posts to.
SELECT set_config('bench.journals', :'journals', false) \g /dev/null
DO $$
DECLARE
    ids uuid[];
    legs uuid[];
BEGIN
    SELECT array_agg(id) INTO ids FROM payment.account;
    FOR batch IN 1 .. current_setting('bench.journals')::bigint / 1000 LOOP
        SELECT array_agg(ids[1 + floor(random() * cardinality(ids))::int]) INTO legs FROM generate_series(1, 2000);
        PERFORM payment.post_journals(array_fill('fill'::text, ARRAY[1000]),
            ARRAY(SELECT 1 + n / 2 FROM generate_series(0, 1999) n), legs,
            ARRAY(SELECT CASE WHEN n % 2 = 0 THEN 1 + n ELSE -n END FROM generate_series(0, 1999) n),
            return_balances => false);
        COMMIT;
    END LOOP;
END
$$;
