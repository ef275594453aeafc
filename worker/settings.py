"""Every setting of Pixmill, typed: command-line flag > environment > .env > pixmill.toml > default."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

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
        120.0, gt=0, description="A worker without progress for this long gives up its process, in seconds."
    )
    checkpoint_s: float = Field(
        30.0, gt=0, description="How much of a training a kill may cost at the most, in seconds."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="What the worker's log file records."
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return Path(os.path.abspath(home.expanduser()))  # noqa: PTH100  resolve() would follow links the user chose

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

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        return {
            f"PIXMILL_{name.upper()}": str(value) for name, value in self.model_dump().items() if value is not None
        } | {"PIXMILL_DATABASE_URL": self.database, "PIXMILL_BROKER_URL": self.broker}
