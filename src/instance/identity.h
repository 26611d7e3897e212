/*-------------------------------------------------------------------------
 *
 * identity.h
 *	  What tells this database on this server from every copy of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_INSTANCE_IDENTITY_H
#define PAYMENT_INSTANCE_IDENTITY_H

#include "datatype/timestamp.h"

typedef struct Identity
{
	int64		system_identifier;
	Oid			database_id;
	int32		timeline;
	const char *data_directory;
	int64		control_file_inode;
	TimestampTz control_file_born_at; /* 0: the file system does not tell */
	const char *machine;
} Identity;

/* of this process's database, now; not during recovery */
extern void identity_read(Identity *identity);

/*
 * What of the two differs, for people, as in "data directory, machine"; NULL
 * when they are the same place.
 */
extern char *identity_differences(const Identity *a, const Identity *b);

#endif /* PAYMENT_INSTANCE_IDENTITY_H */
