/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  What tells this database on this server from every copy of it.
 *
 * A copy has the same rows, so only what is not in the rows can tell it from
 * the original.  Each part is there for copies that keep all the others:
 *
 *	  system identifier		a dump restored in another cluster, pg_upgrade
 *	  database				CREATE DATABASE TEMPLATE
 *	  inode and birth of	a base backup, a file copy, PITR: the server writes
 *	  global/pg_control		this file in place, so only copying makes it anew
 *	  data directory		a snapshot mounted beside the original
 *	  machine				a snapshot or image started elsewhere
 *	  timeline				PITR in place, where files have no birth time
 *
 * Device numbers are left out: they change with a restart of the machine.  So
 * is the timeline as long as there is a birth time: Patroni restarts a primary
 * as a standby and promotes it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "instance/identity.h"
#include "payment.h"

/* of each part of the machine's name */
#define MACHINE_PART_SIZE 128

static void
append_part(StringInfo machine, char *part)
{
	part[strcspn(part, "\r\n")] = '\0';
	if (part[0] == '\0')
		return;
	if (machine->len > 0)
		appendStringInfoChar(machine, '/');
	appendStringInfoString(machine, part);
}

/* The first line of a small file; nothing where there is none. */
static void
append_file(StringInfo machine, const char *path)
{
	char	part[MACHINE_PART_SIZE];
	int		file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = -1;

	if (file >= 0)
	{
		length = read(file, part, sizeof(part) - 1);
		(void) close(file);
	}
	part[Max(length, 0)] = '\0';
	append_part(machine, part);
}

/*
 * Clones of virtual machines may keep the machine's id and containers have
 * none, but few keep the name of the host as well; in Kubernetes the namesake
 * is in another namespace.
 */
static char *
find_machine(void)
{
	StringInfoData machine;
	char		   host[MACHINE_PART_SIZE] = "";

	initStringInfo(&machine);
	append_file(&machine, "/etc/machine-id");
	(void) gethostname(host, sizeof(host) - 1);
	append_part(&machine, host);
	append_file(&machine,
				"/var/run/secrets/kubernetes.io/serviceaccount/namespace");
	return machine.data;
}

static const char *
machine_name(void)
{
	static char *found = NULL;

	if (payment_machine_id && payment_machine_id[0] != '\0')
		return payment_machine_id;
	if (found == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		found = find_machine();
		MemoryContextSwitchTo(old);
	}
	return found;
}

static const char *
data_directory(void)
{
	static char path[PATH_MAX] = "";

	if (path[0] == '\0' && realpath(DataDir, path) == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not resolve the path \"%s\": %m", DataDir)));
	return path;
}

#ifdef STATX_BTIME
static void
read_control_file(Identity *identity)
{
	struct statx status;

	memset(&status, 0, sizeof(status));
	if (statx(AT_FDCWD, XLOG_CONTROL_FILE, 0, STATX_INO | STATX_BTIME,
			  &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", XLOG_CONTROL_FILE)));
	identity->control_file_inode = (int64) status.stx_ino;
	if ((status.stx_mask & STATX_BTIME) && status.stx_btime.tv_sec > 0)
		identity->control_file_born_at =
			time_t_to_timestamptz((pg_time_t) status.stx_btime.tv_sec) +
			status.stx_btime.tv_nsec / 1000;
}
#else
static void
read_control_file(Identity *identity)
{
	struct stat status;

	if (stat(XLOG_CONTROL_FILE, &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", XLOG_CONTROL_FILE)));
	identity->control_file_inode = (int64) status.st_ino;
}
#endif

void
identity_read(Identity *identity)
{
	memset(identity, 0, sizeof(*identity));
	identity->system_identifier = (int64) GetSystemIdentifier();
	identity->database_id = MyDatabaseId;
	identity->timeline = (int32) GetWALInsertionTimeLine();
	identity->data_directory = data_directory();
	identity->machine = machine_name();
	read_control_file(identity);
}

static void
note_difference(StringInfo list, bool differs, const char *what)
{
	if (!differs)
		return;
	appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", what);
}

char *
identity_differences(const Identity *a, const Identity *b)
{
	StringInfoData list;
	bool		   born_unknown =
		a->control_file_born_at == 0 && b->control_file_born_at == 0;

	initStringInfo(&list);
	note_difference(&list, a->system_identifier != b->system_identifier,
					"system identifier");
	note_difference(&list, a->database_id != b->database_id, "database");
	note_difference(&list, strcmp(a->machine, b->machine) != 0, "machine");
	note_difference(&list, strcmp(a->data_directory, b->data_directory) != 0,
					"data directory");
	note_difference(&list,
					a->control_file_inode != b->control_file_inode ||
						a->control_file_born_at != b->control_file_born_at,
					"control file");
	note_difference(&list, born_unknown && a->timeline != b->timeline,
					"timeline");
	return list.len > 0 ? list.data : NULL;
}
