"""`pixmill db`: the database's schema."""

from typing import Annotated

import typer

from cli.context import make_home, settings
from cli.opening import stays_here
from cli.output import emit_json, say

app = typer.Typer(no_args_is_help=True, help="The database's schema.")

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command()
def upgrade(json: Json = False) -> None:
    """Create the tables, or bring them to this version's schema. Safe to run again, and from several places at once."""
    from store import schema
    from store.database import Database

    stays_here("db upgrade")
    chosen = settings()
    if chosen.database_url is None:
        make_home(chosen)
    database = Database(chosen.database)
    database.prepare_folder()
    before = schema.current(database)
    if before is not None and before > schema.HEAD:
        schema.check(database)  # raises: made by a newer version
    schema.upgrade(database)
    if json:
        emit_json({"database": database.where, "schema": schema.HEAD, "before": before})
    say(f"{database.where}: schema {schema.HEAD}" + (" (as before)" if before == schema.HEAD else ""))
    database.close()


@app.command()
def current(json: Json = False) -> None:
    """Print the schema's version."""
    from store import schema
    from store.database import Database

    database = Database(settings().database)
    found = schema.current(database)
    if json:
        emit_json({"database": database.where, "schema": found, "wanted": schema.HEAD})
    say(f"{database.where}: schema {found or 'none yet'}; this Pixmill works with {schema.HEAD}")
    database.close()
