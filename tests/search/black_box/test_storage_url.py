"""No password of a storage is shown, however its URL is written."""

from __future__ import annotations

import pytest

from se_nas.search.black_box.storages.url import masked, without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host/x", "postgresql+psycopg://me:***@host/x"),
        ("postgresql+psycopg://me:se@cr:et@host/x", "postgresql+psycopg://me:***@host/x"),
        ("postgresql+psycopg://me:se/cret@host/x", "postgresql+psycopg://me:***@host/x"),
        ("postgresql+psycopg://me:se?cret@host/x", "postgresql+psycopg://***"),
        ("postgresql+psycopg:/me:secret@host/x", "postgresql+psycopg:/me:***@host/x"),
        ("postgresql+psycopg:///me:secret@host/x", "postgresql+psycopg:///me:***@host/x"),
        ("me:secret@host/x", "me:***@host/x"),
        ("postgresql+psycopg://me:secret", "postgresql+psycopg://me:***"),
        ("postgresql+psycopg://me:secret/x", "postgresql+psycopg://me:***/x"),
        (
            "postgresql://h/x?user=me&password=secret&sslmode=require",
            "postgresql://h/x?user=me&password=***&sslmode=require",
        ),
        ("postgresql://h/x?p%61ssword=secret", "postgresql://h/x?p%61ssword=***"),
        ("postgresql://h/x?user=me&password=se@cret", "postgresql://***"),
        ("postgresql://h/x?sslpassword=secret", "postgresql://h/x?sslpassword=***"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@host/x",
        "postgresql+psycopg://me@host:5432/x",
        "postgresql+psycopg://host:5432/x",
        "postgresql+psycopg://[::1]:5432/x",
        "postgresql+psycopg://[::1]/x",
        "postgresql://h/x?user=me&passfile=/home/me/.pgpass",
        "sqlite:///a.db",
        "sqlite:////tmp/a:b.db",
        "somewhere",
    ],
)
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert masked(url) == url


def test_a_password_in_the_words_of_a_driver_is_not_shown() -> None:
    url = "postgresql://me:s%40cret@host/x?sslpassword=other"
    words = "no host s@cret, nor s%40cret, and other is wrong"
    assert without_secrets(words, url) == "no host ***, nor ***, and *** is wrong"
