"""Every setting of Pixmill, typed: command-line flag > environment > .env > pixmill.toml > default."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

SOCKET_PATH_LIMIT = 100  # a unix socket's path must fit 108 bytes on Linux and 104 on macOS


class Settings(BaseSettings):
    """The settings of one process, read once and never changed."""

    model_config = SettingsConfigDict(
        env_prefix="PIXMILL_", env_file=".env", toml_file="pixmill.toml", extra="ignore", frozen=True
    )

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("pixmill"),
        description="Folder of the local state: database, models, caches, logs.",
    )
    database_url: str | None = Field(
        None, description="SQLite or PostgreSQL; the default is pixmill.db in the home folder."
    )
    broker_url: str | None = Field(
        None, description="Redis ≥ 6.2 or Valkey; without it a private server is started on a unix socket."
    )
    engine: Literal["auto", "openvino", "keras", "fake"] = Field(
        "auto", description="What predicts: auto takes OpenVINO on a CPU and Keras on a GPU."
    )
    precision: Literal["auto", "f32", "bf16"] = Field(
        "auto", description="Arithmetic of the compiled engine: auto takes bf16 where the CPU has it."
    )
    decode_threads: int = Field(0, ge=0, le=256, description="Threads that read and decode; 0 for one per core.")
    max_pixels: int = Field(100_000_000, ge=1, description="Images with more pixels fail as too_many_pixels.")
    max_file_mb: int = Field(256, ge=1, description="Files larger than this fail as too_large, in MiB.")
    model_memory_mb: int = Field(
        2048, ge=1, description="Warm models may hold about this much memory per worker, in MiB."
    )
    lease_s: float = Field(
        60.0, ge=1, description="How long a worker may be silent before its images are given to another, in seconds."
    )
    stall_s: float = Field(
        120.0,
        gt=0,
        description="A worker without progress for this long gives up its process, in seconds; one that trains, "
        "which may compile a large network without a word, after 15 minutes at least.",
    )
    item_s: float = Field(
        60.0, gt=0, description="An image that takes longer to read and decode fails as timed_out, in seconds."
    )
    worker_memory_mb: int = Field(
        0,
        ge=0,
        description="A worker that needs more memory starts anew, without the image that took it, in MiB; "
        "0 for 80 % of what the machine, or its container, has.",
    )
    checkpoint_s: float = Field(
        30.0, gt=0, description="How much of a training a kill may cost at the most, in seconds."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="What the worker's log file, and the API's log, record."
    )
    server: str | None = Field(
        None, max_length=2048, description="Address of a Pixmill server that the command line and the client talk to."
    )
    token: str | None = Field(
        None,
        max_length=256,
        repr=False,
        description="The token for that server; by default the home's own, on loopback.",
    )
    roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders whose files the API may read for its callers, separated by `:` in the environment."
    )
    api_host: str = Field("127.0.0.1", min_length=1, max_length=253, description="Where the API listens.")
    api_port: int = Field(8420, ge=0, le=65535, description="The API's port; 0 for any free one.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names, beside this machine's own, that the API answers to, separated by commas; "
        "`*.example.org` for all below, `*` for any.",
    )
    max_body_mb: int = Field(16, ge=1, le=1024, description="The API refuses larger JSON bodies, in MiB.")
    max_upload_mb: int = Field(4096, ge=1, description="The API refuses larger uploads, in MiB.")
    upload_keep_h: float = Field(24.0, gt=0, description="Uploads that no job uses are removed after so many hours.")
    allow_private_webhooks: bool = Field(
        False, description="Whether webhooks may go to private addresses and over plain http."
    )
    limit_requests_per_minute: int = Field(6000, ge=0, description="Requests per minute and token; 0 for no limit.")
    limit_queued_items: int = Field(10_000_000, ge=0, description="Images of one owner that may wait; 0 for no limit.")
    limit_upload_mb: int = Field(
        102_400, ge=0, description="Uploads of one owner that may lie on the server, in MiB; 0 for no limit."
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return Path(os.path.abspath(home.expanduser()))  # noqa: PTH100  resolve() would follow links the user chose

    @field_validator("roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("roots")
    @classmethod
    def _absolute_roots(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(Path(os.path.abspath(root.expanduser())) for root in roots)  # noqa: PTH100  as for the home

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _absolute_file(cls, url: str | None) -> str | None:
        """A relative SQLite file would be another one in each process."""
        match = re.fullmatch(r"(sqlite(?:\+\w+)?):///(?!/)([^?]*)(.*)", url or "")
        if match is None:
            if url is not None and re.fullmatch(r"sqlite(\+\w+)?:(//)?/?", url):
                raise ValueError("a database in memory cannot be shared; name a file, sqlite:////path/pixmill.db")
            return url
        if match[2] in ("", ":memory:"):
            raise ValueError("a database in memory cannot be shared; name a file, sqlite:////path/pixmill.db")
        return f"{match[1]}:///{os.path.abspath(match[2])}{match[3]}"  # noqa: PTH100  as for the home

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put pixmill.toml below the environment."""
        return (
            init_settings,
            env_settings,
            dotenv_settings,
            file_secret_settings,
            TomlConfigSettingsSource(settings_cls),
        )

    @cached_property
    def database(self) -> str:
        """The database's URL, the default filled in."""
        return self.database_url or f"sqlite:///{self.home}/pixmill.db"

    @cached_property
    def broker(self) -> str:
        """The broker's URL, the embedded one filled in."""
        return self.broker_url or f"redis+socket://{self.socket}"

    @cached_property
    def socket(self) -> Path:
        """The unix socket of the embedded broker; in the system's temporary folder if the home's path is too long."""
        inside = self.run_folder / "broker.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_LIMIT:
            return inside
        import hashlib
        import tempfile

        short = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"pixmill-{os.getuid()}-{short}" / "broker.sock"

    @property
    def models_folder(self) -> Path:
        """The registry's folder."""
        return self.home / "models"

    @property
    def cache_folder(self) -> Path:
        """What can be made again: compiled graphs, unpacked archives."""
        return self.home / "cache"

    @property
    def runs_folder(self) -> Path:
        """Checkpoints and caches of trainings, a folder for each run."""
        return self.home / "runs"

    @property
    def run_folder(self) -> Path:
        """Sockets and locks of running processes."""
        return self.home / "run"

    @property
    def log_folder(self) -> Path:
        """Log files of workers and of the embedded broker."""
        return self.home / "logs"

    @property
    def uploads_folder(self) -> Path:
        """What callers of the API sent, a folder for each upload."""
        return self.home / "uploads"

    @property
    def thumbnails_folder(self) -> Path:
        """Small pictures for pages, which can be made again."""
        return self.cache_folder / "thumbnails"

    @property
    def token_file(self) -> Path:
        """The token made at the API's first start, for this machine's own programs; only the owner may read it."""
        return self.home / "token"

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        separators = {"roots": os.pathsep, "allowed_hosts": ","}
        values = {
            name: separators[name].join(map(str, value)) if name in separators else str(value)
            for name, value in self.model_dump().items()
            if value is not None
        }
        return {f"PIXMILL_{name.upper()}": value for name, value in values.items()} | {
            "PIXMILL_DATABASE_URL": self.database,
            "PIXMILL_BROKER_URL": self.broker,
        }
