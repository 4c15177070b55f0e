"""Which functions leave nothing on their session: the server's own by list, a project's by the server's word.

The server is asked once for each name and database, when a statement first calls it. A function that is not volatile
(PostgreSQL), or is deterministic and at most reads (MySQL, MariaDB), leaves nothing; any other one may set what it
likes, as may one that the server does not know.

Sources: PostgreSQL manual, "Function Volatility Categories"; MySQL manual, "CREATE PROCEDURE and CREATE FUNCTION
Statements" (characteristics), "Built-In Function and Operator Reference"; MariaDB's table ``SQL_FUNCTIONS``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Routines"]

POSTGRESQL = frozenset(
    """
    abs array_agg array_length array_to_string avg bool_and bool_or cardinality cast ceil ceiling char_length coalesce
    concat concat_ws count cume_dist current_database current_schema current_setting current_user currval date_part
    date_trunc dense_rank exp extract first_value floor format gen_random_uuid generate_series greatest initcap
    jsonb_agg jsonb_array_elements jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
    jsonb_extract_path_text jsonb_object_keys jsonb_path_exists jsonb_set json_agg json_build_array json_build_object
    lag last_value lastval lead least left length ln log lower lpad ltrim make_date max md5 min mod nextval now
    nth_value ntile nullif overlay percent_rank percentile_cont pg_backend_pid pg_sleep phraseto_tsquery
    plainto_tsquery position power random rank regexp_replace repeat replace reverse right round row_number rpad rtrim
    session_user setval setweight sign split_part sqrt string_agg string_to_array strip strpos substr substring sum
    to_char to_date to_number to_timestamp to_tsquery to_tsvector translate treat trim trunc ts_headline ts_rank
    ts_rank_cd unnest upper version websearch_to_tsquery width_bucket
    bit char character date decimal float int integer json nchar numeric precision real smallint text time timestamp
    varchar varying
    """.split(),
)
"""Some of the most used, of which the server is not asked; it knows the rest."""

MYSQL = frozenset(
    """
    abs acos add_months adddate addtime aes_decrypt aes_encrypt against ascii asin atan atan2 avg benchmark bin
    bigint binary bit char character date datetime decimal double float index int integer json key match nchar numeric
    nvarchar precision real signed smallint text time timestamp tinyint unsigned varbinary varchar varying year
    bit_and bit_count bit_length bit_or bit_xor cast ceil ceiling char_length character_length charset chr
    coalesce coercibility collation column_check column_exists column_json column_list compress concat concat_ws
    connection_id conv convert convert_tz cos cot count crc32 crc32c cume_dist curdate current_date current_role
    current_time current_timestamp current_user curtime database date_add date_format date_sub datediff day dayname
    dayofmonth dayofweek dayofyear decode default degrees dense_rank des_decrypt des_encrypt div elt encode encrypt
    exp export_set extract extractvalue field find_in_set first_value floor format
    found_rows from_base64 from_days from_unixtime get_format greatest group_concat hex hour
    if ifnull inet6_aton inet6_ntoa inet_aton inet_ntoa insert instr is_free_lock is_ipv4 is_ipv4_compat
    is_ipv4_mapped is_ipv6 is_used_lock isnull json_array json_array_append json_array_insert json_arrayagg
    json_compact json_contains json_contains_path json_depth json_detailed json_equals json_exists json_extract
    json_insert json_keys json_length json_loose json_merge json_merge_patch json_merge_preserve json_normalize
    json_object json_objectagg json_overlaps json_pretty json_query json_quote json_remove json_replace
    json_schema_valid json_schema_validation_report json_search json_set json_storage_free json_storage_size
    json_table json_type json_unquote json_valid json_value lag last_day last_insert_id last_value lastval lcase lead
    least left length lengthb ln load_file localtime localtimestamp locate log log10 log2 lower lpad ltrim make_set
    makedate maketime master_gtid_wait master_pos_wait max md5 median microsecond mid min minute mod month monthname
    name_const natural_sort_key nextval now nth_value ntile nullif nvl nvl2 oct octet_length old_password ord password
    percent_rank percentile_cont percentile_disc period_add period_diff pi position pow power quarter quote
    radians rand random_bytes rank regexp_instr regexp_like regexp_replace regexp_substr repeat replace reverse right
    round row_count row_number rpad rtrim schema schemas sec_to_time second session_user setval sformat sha sha1 sha2
    sign sin sleep soundex space sqrt std stddev stddev_pop stddev_samp
    str_to_date strcmp subdate substr substring substring_index subtime sum sys_guid sysdate system_user tan
    time_format time_to_sec timediff timestampadd timestampdiff to_base64 to_char to_days to_seconds trim truncate
    ucase uncompress uncompressed_length unhex unix_timestamp updatexml upper user utc_date utc_time utc_timestamp
    uuid uuid_short values var_pop var_samp variance version
    week weekday weekofyear weight_string yearweek
    """.split(),
)
_MAY_BE_OWN = re.compile(
    r"(?:st|mbr|json|regexp|vec|vector|distance|gtid|ps|statement_digest|format|uuid|multi)_?\w*"
    r"|any_value|bin_to_uuid|is_uuid|point|polygon|linestring|geometrycollection|validate_password_strength"
)
"""Functions that MySQL or MariaDB has and the other has not, or had not: the server's own if they are no routines."""


ASK_MYSQL = (
    "SELECT LOWER(ROUTINE_NAME), MIN(IS_DETERMINISTIC = 'YES' AND SQL_DATA_ACCESS IN ('NO SQL', "
    "'READS SQL DATA')) FROM information_schema.ROUTINES WHERE ROUTINE_TYPE = 'FUNCTION' "
    "AND LOWER(ROUTINE_NAME) IN (%s) GROUP BY LOWER(ROUTINE_NAME)"
)
"""Asks MySQL or MariaDB about functions, whose escaped names take the place of ``%s``."""
ASK_POSTGRESQL = (
    "SELECT lower(proname), NOT bool_or(provolatile = 'v' AND pronamespace <> 'pg_catalog'::regnamespace) "
    "FROM pg_proc WHERE lower(proname) = ANY(%s) GROUP BY 1"
)
"""Asks PostgreSQL about functions, whose names are its one parameter."""
MAY_LEAVE_SOMETHING = (
    "(SELECT array_agg(DISTINCT lower(proname::text)) FROM pg_proc WHERE provolatile = 'v' AND prokind <> 'p' "
    "AND pronamespace <> 'pg_catalog'::regnamespace)"
)
"""What of a project's own functions PostgreSQL knows that may leave something: for :meth:`Routines.load`."""


class Routines:
    """What is known of the functions of one database."""

    def __init__(self, own: frozenset[str] = frozenset(), *, all_harmless: bool = False) -> None:
        self._all_harmless = all_harmless
        self._harmless: set[str] = set(own)
        self._leaving: set[str] = set()
        self.loaded = False
        """Whether the server has named its project's functions."""

    def unknown(self, calls: frozenset[str]) -> list[str]:
        """Those of ``calls`` of which the server must be asked."""
        if self._all_harmless or calls <= self._harmless:
            return []
        return sorted(calls - self._harmless - self._leaving)

    def leave_nothing(self, calls: frozenset[str]) -> bool:
        """Whether none of ``calls`` can have left anything."""
        return self._all_harmless or calls <= self._harmless

    def learn(self, asked: list[str], found: dict[str, bool]) -> None:
        """Takes the server's word: whether each function that it knows is harmless."""
        for name in asked:
            bare = name.lstrip(".")
            harmless = found.get(bare, bare == name and _MAY_BE_OWN.fullmatch(bare) is not None)
            (self._harmless if harmless else self._leaving).add(name)

    def load(self, leaving: Iterable[str]) -> None:
        """Takes the names of all that may leave something; the server's own functions may have namesakes among them."""
        self._leaving |= set(leaving)
        self._harmless -= self._leaving
        self.loaded = True

    def forget(self) -> None:
        """Called when functions may have changed; each is asked about again, for the server's may have namesakes."""
        self._harmless.clear()
        self._leaving.clear()
