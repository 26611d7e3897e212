/*-------------------------------------------------------------------------
 *
 * json.h
 *	  A reader for the JSON that PSPs answer with.
 *
 * Why not the server's own: inside a backend that one raises errors (nesting,
 * escapes that the database's encoding lacks) and lets invalid UTF-8 pass.
 * This one says no instead, works without a server, bounds depth and size,
 * and leaves numbers as text, so that no amount ever becomes a double.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_JSON_H
#define PAYMENT_PSP_JSON_H

#define JSON_DEPTH_MAX 64
#define JSON_NODES_MAX 262144

typedef enum JsonType
{
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
} JsonType;

/* Offsets into the text; those of strings and keys are without the quotes. */
typedef struct JsonNode
{
	JsonType type;
	int		 start;
	int		 length;
	int		 key_start;
	int		 key_length;
	int		 child; /* first element or member, -1: none */
	int		 next;	/* next sibling, -1: none */
} JsonNode;

typedef struct JsonDocument
{
	const char *text;
	int			length;
	JsonNode   *nodes; /* nodes[0] is the root */
	int			count;
	int			capacity;
} JsonDocument;

/* false unless text is exactly one valid document within the bounds */
extern bool json_parse(JsonDocument *document, const char *text, int length);
extern void json_free(JsonDocument *document);

/* All take and give NULL for what is not there. */
extern const JsonNode *json_root(const JsonDocument *document);
extern const JsonNode *json_member(const JsonDocument *document,
								   const JsonNode *object, const char *name);
extern const JsonNode *json_first(const JsonDocument *document,
								  const JsonNode	 *array);
extern const JsonNode *json_next(const JsonDocument *document,
								 const JsonNode		*node);

/* palloc'd UTF-8 without a NUL inside, or NULL when it is no such string */
extern char *json_string(const JsonDocument *document, const JsonNode *node);
/* false unless it is a number without fraction or exponent that fits */
extern bool json_int64(const JsonDocument *document, const JsonNode *node,
					   int64 *value);
extern bool json_is_true(const JsonNode *node);

#endif /* PAYMENT_PSP_JSON_H */
