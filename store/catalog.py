"""Which model versions the database knows: jobs, memo and views refer to them."""

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import db_now
from store.database import Database
from store.rows import ModelRow
from store.tables import models

_KNOWN = select(models.c.id, models.c.name, models.c.version, models.c.path).where(
    models.c.digest == bindparam("wanted")
)


def register_model(
    database: Database, reference: tuple[str, int], digest: str, labels: Sequence[str], preprocessing: str, path: str
) -> int:
    """The id of a model version (name, version), made when its digest is new. `preprocessing` is JSON."""
    name, version = reference
    place = {"name": name, "version": version, "path": path}
    with database.read() as connection:  # most jobs use a model that another one has used
        known = connection.execute(_KNOWN, {"wanted": digest}).first()
    if known is not None and place.items() <= known._mapping.items():
        return int(known.id)
    with database.write() as connection:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(
            dialect.insert(models)
            .values(
                **place,
                digest=digest,
                classes=len(labels),
                labels=json.dumps(list(labels), ensure_ascii=False),
                preprocessing=preprocessing,
                created_at=db_now(),
            )
            .on_conflict_do_update(index_elements=["digest"], set_=place)
        )
        return int(connection.execute(_KNOWN, {"wanted": digest}).scalar_one())


def find_model(database: Database, model_id: int) -> ModelRow:
    """One model version by its id. Raises LookupError."""
    with database.read() as connection:
        row = connection.execute(select(models).where(models.c.id == model_id)).first()
    if row is None:
        raise LookupError(f"expected a model with id {model_id} in the database, found none")
    return ModelRow(row.id, row.name, row.version, row.digest, tuple(json.loads(row.labels)), row.path)
