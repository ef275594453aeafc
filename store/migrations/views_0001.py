"""The views as schema 0001 had them: what its migration makes, and what one goes back to. Never changed again."""

from collections.abc import Callable

# A file that a user named outside of the root keeps its absolute path.
ROOT_PATH = (
    "CASE WHEN i.path LIKE '/%' THEN i.path WHEN j.root = '/' THEN '/' || i.path ELSE j.root || '/' || i.path END"
)
FULL_PATH = f"{ROOT_PATH} || CASE WHEN i.member IS NULL THEN '' ELSE '!/' || i.member END"


def _sqlite_time(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column}, 'unixepoch')"


def _postgresql_time(column: str) -> str:
    return f"to_timestamp({column})"


def _sqlite_hex(column: str) -> str:
    return f"lower(hex({column}))"


def _postgresql_hex(column: str) -> str:
    return f"encode({column}, 'hex')"


def definitions(dialect: str) -> dict[str, str]:
    """The SELECT of every view for "sqlite" or "postgresql", in an order in which they can be created."""
    if dialect == "sqlite":
        return _definitions(_sqlite_time, _sqlite_hex)
    return _definitions(_postgresql_time, _postgresql_hex)


def _definitions(iso: Callable[[str], str], hexed: Callable[[str], str]) -> dict[str, str]:
    model = "m.name || '@' || m.version"
    joined = """FROM results r
        JOIN items i ON i.job_id = r.job_id AND i.idx = r.idx
        JOIN jobs j ON j.id = r.job_id
        LEFT JOIN models m ON m.id = j.model_id"""
    return {
        "v_results": f"""SELECT r.job_id, r.idx, {FULL_PATH} AS path, i.path AS file_name, i.member,
            r.status, r.label, r.score, i.label AS true_label, i.split, {model} AS model,
            r.error_code, r.error, r.topk, i.external_id, i.extra, r.width, r.height, i.size,
            {hexed("r.content_hash")} AS content_hash, r.reused, {iso("r.created_at")} AS created_at
            {joined}""",
        "v_failures": f"""SELECT r.job_id, r.idx, {FULL_PATH} AS path, r.error_code, r.error, i.size,
            {iso("r.created_at")} AS created_at
            {joined} WHERE r.status = 'failed'""",
        "v_job_totals": f"""SELECT j.id AS job_id, j.kind, j.state, j.description, {model} AS model,
            j.n_items AS found,
            CAST(COALESCE(SUM(s.ok), 0) AS BIGINT) AS classified,
            CAST(COALESCE(SUM(s.failed), 0) AS BIGINT) AS failed,
            CAST(COALESCE(SUM(s.reused), 0) AS BIGINT) AS reused,
            CAST(j.n_items - COALESCE(SUM(s.ok + s.failed), 0) AS BIGINT) AS pending,
            {iso("j.created_at")} AS created_at, {iso("j.started_at")} AS started_at,
            {iso("j.finished_at")} AS finished_at, j.finished_at - j.started_at AS seconds
            FROM jobs j LEFT JOIN models m ON m.id = j.model_id LEFT JOIN shards s ON s.job_id = j.id
            GROUP BY j.id, m.id""",
        "v_confusion": """SELECT r.job_id, i.label AS true_label, r.label AS predicted_label, COUNT(*) AS images
            FROM results r JOIN items i ON i.job_id = r.job_id AND i.idx = r.idx
            WHERE r.status = 'ok' AND i.label IS NOT NULL
            GROUP BY r.job_id, i.label, r.label""",
        "v_model_diff": f"""SELECT {FULL_PATH} AS path,
            ma.name || '@' || ma.version AS model_a, ra.label AS label_a, ra.score AS score_a,
            mb.name || '@' || mb.version AS model_b, rb.label AS label_b, rb.score AS score_b,
            i.label AS true_label
            FROM memo a JOIN memo b ON b.key = a.key AND b.kind = a.kind AND b.model_id > a.model_id
            JOIN results ra ON ra.job_id = a.job_id AND ra.idx = a.idx AND ra.status = 'ok'
            JOIN results rb ON rb.job_id = b.job_id AND rb.idx = b.idx AND rb.status = 'ok'
            JOIN items i ON i.job_id = b.job_id AND i.idx = b.idx JOIN jobs j ON j.id = b.job_id
            JOIN models ma ON ma.id = a.model_id JOIN models mb ON mb.id = b.model_id
            WHERE a.kind = 'content' AND ra.label <> rb.label""",
        "v_run_curve": """SELECT u.name AS run, e.run_id, e.epoch, e.attempt, e.loss, e.accuracy, e.val_loss,
            e.val_accuracy, e.learning_rate, e.seconds
            FROM epochs e JOIN runs u ON u.id = e.run_id""",
    }
