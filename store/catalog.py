"""Which model versions the database knows: jobs, memo and views refer to them."""

import json
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import db_now
from store.database import Database
from store.rows import ModelRow
from store.tables import models


def register_model(
    database: Database, reference: tuple[str, int], digest: str, labels: Sequence[str], preprocessing: str, path: str
) -> int:
    """The id of a model version (name, version), made when its digest is new. `preprocessing` is JSON."""
    name, version = reference
    with database.write() as connection:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(
            dialect.insert(models)
            .values(
                name=name,
                version=version,
                digest=digest,
                classes=len(labels),
                labels=json.dumps(list(labels), ensure_ascii=False),
                preprocessing=preprocessing,
                path=path,
                created_at=db_now(),
            )
            .on_conflict_do_update(index_elements=["digest"], set_={"path": path, "name": name, "version": version})
        )
        return int(connection.execute(select(models.c.id).where(models.c.digest == digest)).scalar_one())


def find_model(database: Database, model_id: int) -> ModelRow:
    """One model version by its id. Raises LookupError."""
    with database.read() as connection:
        row = connection.execute(select(models).where(models.c.id == model_id)).first()
    if row is None:
        raise LookupError(f"expected a model with id {model_id} in the database, found none")
    return ModelRow(row.id, row.name, row.version, row.digest, tuple(json.loads(row.labels)), row.path)
