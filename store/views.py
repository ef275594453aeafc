"""The documented views: the SQL interface that users query (docs/schema.md).

Each view is written once, in the words of a `Dialect` where the two databases differ.
"""

from dataclasses import dataclass, replace

# A file that a user named outside of the root keeps its absolute path.
ROOT_PATH = (
    "CASE WHEN i.path LIKE '/%' THEN i.path WHEN j.root = '/' THEN '/' || i.path ELSE j.root || '/' || i.path END"
)
FULL_PATH = f"{ROOT_PATH} || CASE WHEN i.member IS NULL THEN '' ELSE '!/' || i.member END"
OTHER_PATH = FULL_PATH.replace("i.", "o.")
MODEL = "m.name || '@' || m.version"
LABELLED = "r.status = 'ok' AND r.label IS NOT NULL AND i.label IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Expressions with `{}` for a column or expression: as a timestamp, in hexadecimal, rounded down to a whole."""

    time: str
    hexed: str
    floor: str
    top5: str  # 1 where the true label is among the five best, else 0
    look_up: str  # {table}, {name} and {key}: joins the row of a large table that has the job and idx of another

    @property
    def with_items(self) -> str:
        """Results and their items."""
        return f"FROM results r {self.look_up.format(table='items', name='i', key='r')}"

    @property
    def classified(self) -> str:
        """Results, their items, jobs and models."""
        return f"""{self.with_items}
            JOIN jobs j ON j.id = r.job_id LEFT JOIN models m ON m.id = j.model_id"""


SQLITE = Dialect(
    time="strftime('%Y-%m-%dT%H:%M:%fZ', {}, 'unixepoch')",
    hexed="CASE WHEN {0} IS NOT NULL THEN lower(hex({0})) END",  # hex(NULL) is an empty text
    floor="CAST({} AS INTEGER)",
    top5="""EXISTS (SELECT 1 FROM json_each(r.topk) t
        WHERE t.key < 5 AND json_extract(t.value, '$.label') = i.label)""",
    look_up="JOIN {table} {name} ON {name}.job_id = {key}.job_id AND {name}.idx = {key}.idx",
)
POSTGRESQL = Dialect(
    time="to_timestamp({})",
    hexed="encode({0}, 'hex')",
    floor="CAST(FLOOR({}) AS INTEGER)",
    top5="""EXISTS (SELECT 1 FROM json_array_elements(r.topk::json) WITH ORDINALITY t (value, place)
        WHERE t.place <= 5 AND t.value ->> 'label' = i.label)""",
    # Row by row, whatever the planner expects: where it does not know a job, it expects one row of it, and may read
    # all of them for each of the others (see columns.Unguessed).
    look_up="""JOIN LATERAL (SELECT * FROM {table} x WHERE x.job_id = {key}.job_id AND x.idx = {key}.idx
        OFFSET 0) {name} ON true""",
)


def definitions(dialect: str) -> dict[str, str]:
    """The SELECT of every view for "sqlite" or "postgresql", in an order in which they can be created."""
    words = SQLITE if dialect == "sqlite" else POSTGRESQL
    return _of_jobs(words) | _of_evaluations(words) | _of_runs(words)


def results_as_tables(dialect: str) -> str:
    """The SELECT of v_results as a join that the planner may do as it likes: for who reads all of a job."""
    words = SQLITE if dialect == "sqlite" else replace(POSTGRESQL, look_up=SQLITE.look_up)
    return _of_jobs(words)["v_results"]


def _of_jobs(d: Dialect) -> dict[str, str]:
    return {
        "v_results": f"""SELECT r.job_id, r.idx, {FULL_PATH} AS path, i.path AS file_name, i.member,
            r.status, r.label, r.score, i.label AS true_label, i.split, {MODEL} AS model,
            r.error_code, r.error, r.topk, i.external_id, i.extra, r.width, r.height, i.size,
            {d.hexed.format("r.content_hash")} AS content_hash, r.reused, {d.time.format("r.created_at")} AS created_at
            {d.classified}""",
        "v_failures": f"""SELECT r.job_id, r.idx, {FULL_PATH} AS path, r.error_code, r.error, i.size,
            {d.time.format("r.created_at")} AS created_at
            {d.classified} WHERE r.status = 'failed'""",
        "v_job_totals": f"""SELECT j.id AS job_id, j.kind, j.state, j.owner, j.description, {MODEL} AS model,
            j.n_items AS found,
            CAST(COALESCE(SUM(s.ok), 0) AS BIGINT) AS classified,
            CAST(COALESCE(SUM(s.failed), 0) AS BIGINT) AS failed,
            CAST(COALESCE(SUM(s.reused), 0) AS BIGINT) AS reused,
            CAST(j.n_items - COALESCE(SUM(s.ok + s.failed), 0) AS BIGINT) AS pending,
            {d.time.format("j.created_at")} AS created_at, {d.time.format("j.started_at")} AS started_at,
            {d.time.format("j.finished_at")} AS finished_at, j.finished_at - j.started_at AS seconds
            FROM jobs j LEFT JOIN models m ON m.id = j.model_id LEFT JOIN shards s ON s.job_id = j.id
            GROUP BY j.id, m.id""",
        "v_corrections": f"""SELECT c.job_id, c.idx, {FULL_PATH} AS path, c.label, r.label AS predicted_label,
            i.label AS true_label, c.author, {d.time.format("c.created_at")} AS created_at
            FROM corrections c {d.look_up.format(table="items", name="i", key="c")} JOIN jobs j ON j.id = c.job_id
            LEFT {d.look_up.format(table="results", name="r", key="c")}
            WHERE c.label IS NOT NULL AND c.id = (SELECT MAX(n.id) FROM corrections n
                WHERE n.job_id = c.job_id AND n.idx = c.idx)""",
    }


def _of_evaluations(d: Dialect) -> dict[str, str]:
    bin_number = f"CASE WHEN r.score >= 1 THEN 9 ELSE {d.floor.format('r.score * 10')} END"
    return {
        "v_confusion": f"""SELECT r.job_id, i.label AS true_label, r.label AS predicted_label, COUNT(*) AS images
            {d.with_items}
            WHERE {LABELLED}
            GROUP BY r.job_id, i.label, r.label""",
        "v_class_metrics": """SELECT c.job_id, c.label, CAST(SUM(c.support) AS BIGINT) AS support,
            CAST(SUM(c.predicted) AS BIGINT) AS predicted, CAST(SUM(c.correct) AS BIGINT) AS correct,
            SUM(c.correct) * CAST(1 AS DOUBLE PRECISION) / NULLIF(SUM(c.predicted), 0) AS precision,
            SUM(c.correct) * CAST(1 AS DOUBLE PRECISION) / NULLIF(SUM(c.support), 0) AS recall,
            2 * SUM(c.correct) * CAST(1 AS DOUBLE PRECISION) / (SUM(c.support) + SUM(c.predicted)) AS f1
            FROM (SELECT job_id, true_label AS label, images AS support, 0 AS predicted,
                    CASE WHEN true_label = predicted_label THEN images ELSE 0 END AS correct FROM v_confusion
                UNION ALL SELECT job_id, predicted_label, 0, images, 0 FROM v_confusion) c
            GROUP BY c.job_id, c.label""",
        "v_evaluations": f"""SELECT r.job_id, {MODEL} AS model, MAX(e.run_id) AS run_id, MAX(e.split) AS split,
            COUNT(*) AS images,
            CAST(SUM(CASE WHEN r.label = i.label THEN 1 ELSE 0 END) AS BIGINT) AS correct,
            AVG(CASE WHEN r.label = i.label THEN CAST(1 AS DOUBLE PRECISION) ELSE 0 END) AS accuracy,
            AVG(CASE WHEN {d.top5} THEN CAST(1 AS DOUBLE PRECISION) ELSE 0 END) AS top5_accuracy,
            MAX(e.macro_f1) AS macro_f1, MAX(e.ece) AS ece, MAX(e.report_path) AS report_path
            {d.classified} LEFT JOIN evaluations e ON e.job_id = j.id
            WHERE {LABELLED}
            GROUP BY r.job_id, m.name, m.version""",
        "v_calibration": f"""SELECT r.job_id, {bin_number} AS bin, COUNT(*) AS images, AVG(r.score) AS mean_score,
            AVG(CASE WHEN r.label = i.label THEN CAST(1 AS DOUBLE PRECISION) ELSE 0 END) AS accuracy
            {d.with_items}
            WHERE {LABELLED}
            GROUP BY r.job_id, {bin_number}""",
        "v_mistakes": f"""SELECT r.job_id, r.idx, {FULL_PATH} AS path, i.label AS true_label,
            r.label AS predicted_label, r.score, {MODEL} AS model
            {d.classified} WHERE {LABELLED} AND r.label <> i.label""",
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
    }


def _of_runs(d: Dialect) -> dict[str, str]:
    return {
        "v_runs": f"""SELECT u.id AS run_id, u.name AS run, u.state, u.stage, u.owner, {MODEL} AS model,
            b.name || '@' || b.version AS base, u.monitor, u.best_epoch, u.best_value, e.accuracy, e.top5,
            (SELECT COUNT(*) FROM epochs p WHERE p.run_id = u.id) AS epochs, u.epochs_planned,
            u.images_train, u.images_val, u.images_test, u.seed, u.fingerprint, u.device, u.continued_from,
            u.finished_at - u.started_at AS seconds, {d.time.format("u.created_at")} AS created_at,
            {d.time.format("u.started_at")} AS started_at, {d.time.format("u.finished_at")} AS finished_at,
            u.job_id, u.evaluation_job_id, u.report_path, u.error
            FROM runs u LEFT JOIN models m ON m.id = u.model_id LEFT JOIN models b ON b.id = u.base_model_id
            LEFT JOIN evaluations e ON e.job_id = u.evaluation_job_id""",
        "v_run_curve": """SELECT u.name AS run, e.run_id, e.epoch, e.phase, e.attempt, e.loss, e.accuracy, e.top5,
            e.val_loss, e.val_accuracy, e.val_top5, e.learning_rate, e.images_per_s, e.seconds,
            CASE WHEN e.epoch = u.best_epoch THEN 1 ELSE 0 END AS is_best,
            CASE WHEN e.attempt <> LAG(e.attempt, 1, e.attempt) OVER (PARTITION BY e.run_id ORDER BY e.epoch)
                THEN 1 ELSE 0 END AS restarted
            FROM epochs e JOIN runs u ON u.id = e.run_id""",
        "v_run_items": f"""SELECT u.name AS run, n.run_id, n.idx, n.split, {FULL_PATH} AS path, i.label,
            {d.hexed.format("n.content_hash")} AS content_hash, n.group_key
            FROM run_items n JOIN runs u ON u.id = n.run_id LEFT JOIN jobs j ON j.id = u.job_id
            LEFT JOIN items i ON i.job_id = u.job_id AND i.idx = n.idx""",
        "v_findings": f"""SELECT u.name AS run, f.run_id, f.id AS finding, f.kind, f.idx, {FULL_PATH} AS path, i.label,
            n.split, f.other_idx, {OTHER_PATH} AS other_path, o.label AS other_label, p.split AS other_split,
            f.distance, f.detail FROM findings f JOIN runs u ON u.id = f.run_id LEFT JOIN jobs j ON j.id = u.job_id
            LEFT JOIN items i ON i.job_id = u.job_id AND i.idx = f.idx
            LEFT JOIN items o ON o.job_id = u.job_id AND o.idx = f.other_idx
            LEFT JOIN run_items n ON n.run_id = f.run_id AND n.idx = f.idx
            LEFT JOIN run_items p ON p.run_id = f.run_id AND p.idx = f.other_idx""",
    }
