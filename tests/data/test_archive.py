"""Tar archives: what they unpack to, once, and what they may not do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from sightline.data import open_dataset
from tests.data.helpers import contents, error, png, tree
from tests.support import data_root

PETS = ("train/cat/1.png", "train/dog/1.png", "test/cat/2.png")


def tar(file: Path, *members: str | tarfile.TarInfo, data: bytes | None = None) -> Path:
    """An archive of pictures of those names, or of members made by hand."""
    with tarfile.open(file, "w:gz" if file.suffix in (".gz", ".tgz") else "w") as archive:
        for member in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
            content = (data or png()) if member.isreg() else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize("name", ["pets.tar", "pets.tar.gz", "pets.tgz", "PETS.TAR.GZ"])
@pytest.mark.parametrize("top", ["", "./", "pets-1.0/", "a/b/"])
def test_an_archive(name: str, top: str, tmp_path: Path) -> None:
    data = open_dataset(tar(tmp_path / name, *(top + member for member in PETS)))
    assert data.name.lower() == "pets"
    assert contents(data) == [
        ("train/cat/1.png", "cat", "train"),
        ("train/dog/1.png", "dog", "train"),
        ("test/cat/2.png", "cat", "test"),
    ]
    assert data[0][0].size == (3, 2)


def test_it_is_unpacked_once(tmp_path: Path, home: Path) -> None:
    file = tar(tmp_path / "pets.tar", "cat/1.png", "dog/1.png")
    first = open_dataset(file).root
    assert first is not None
    (first / "cat" / "mark.png").write_bytes(png())
    assert len(open_dataset(file)) == 3
    tar(file, "cat/1.png", "dog/1.png", "dog/2.png", "dog/3.png")  # another content
    assert [ref for ref, _, _ in contents(open_dataset(file))] == [
        "cat/1.png",
        *(f"dog/{i}.png" for i in (1, 2, 3)),
    ]
    assert len(list((home / "archives").iterdir())) == 2


def test_only_pictures_are_unpacked(tmp_path: Path, home: Path) -> None:
    members = ["cat/1.png", "dog/1.png", "cat/._1.png", "__MACOSX/cat/1.png", "setup.py", "cat/.hidden/1.png"]
    open_dataset(tar(tmp_path / "pets.tar", *members))
    files = [path.name for path in (home / "archives").rglob("*") if path.is_file()]
    assert files == ["1.png", "1.png"]


def test_links_and_devices_are_passed_over(tmp_path: Path, home: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(9))
    outside = tree(tmp_path / "outside", "there.txt")
    file = tar(
        tmp_path / "pets.tar",
        *("cat/1.png", "dog/1.png"),
        special("cat/soft.png", tarfile.SYMTYPE, str(secret)),
        special("cat/hard.png", tarfile.LNKTYPE, "../../../secret.png"),
        special("bird", tarfile.SYMTYPE, str(outside)),
        "bird/2.png",  # through the link, if it had been made
        special("cat/pipe.png", tarfile.FIFOTYPE),
        special("cat/zero.png", tarfile.CHRTYPE),
    )
    data = open_dataset(file)
    assert [ref for ref, _, _ in contents(data)] == ["bird/2.png", "cat/1.png", "dog/1.png"]
    assert [path.name for path in outside.iterdir()] == ["there.txt"]
    assert not any(path.is_symlink() for path in home.rglob("*"))


@pytest.mark.parametrize(
    "name", ["../evil.png", "cat/../../evil.png", "/tmp/evil.png", "cat/../../../../evil.png"]
)
def test_no_member_leaves_the_archive(name: str, tmp_path: Path, home: Path) -> None:
    file = tar(tmp_path / "pets.tar.gz", "cat/1.png", "dog/1.png", name)
    assert f"its member {name!r} would leave the archive" in error(file)
    assert not list(tmp_path.rglob("evil.png"))
    assert not Path("/tmp/evil.png").exists()
    assert not list((home / "archives").iterdir())


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr("sightline.data.archive._ALWAYS_ALLOWED", 1_000_000)
    assert "unpacks to more than 200 times its size" in error(
        tar(tmp_path / "a.tar.gz", "a/1.png", data=bytes(2**21))
    )
    monkeypatch.setattr("sightline.data.archive._MAX_RATIO", 20)
    many = [special(f"{i}", tarfile.DIRTYPE) for i in range(3000)]  # nothing but headers
    assert "unpacks to more than" in error(tar(tmp_path / "b.tar.gz", *many))
    assert not list((home / "archives").iterdir())
    open_dataset(tar(tmp_path / "c.tar", "a/1.png", "b/1.png", data=bytes(2**19)))


def test_damaged_archives(tmp_path: Path, home: Path) -> None:
    plain = tar(tmp_path / "pets.tar", *PETS).read_bytes()
    packed = tar(tmp_path / "pets.tar.gz", *PETS).read_bytes()
    for name, data in {
        "text.tar": b"This is no archive.",
        "empty.tar": b"",
        "cut in a member.tar": plain[: 512 * 3 + 30],
        "cut before a header.tar": plain[: 512 * 2],
        "no header.tar": plain[: 512 * 2] + b"\xff" * 512 + plain[512 * 3 :],
        "half.tar.gz": packed[: len(packed) // 2],
        "bits.tar.gz": packed[:60] + bytes([packed[60] ^ 255]) + packed[61:],
        "text.tgz": b"This is no archive.",
    }.items():
        (tmp_path / name).write_bytes(data)
        message = error(tmp_path / name)
        assert (
            f"{tmp_path / name} is damaged, or no tar archive" in message or "cannot be unpacked" in message
        )
    assert not list((home / "archives").iterdir())


def test_an_archive_without_classes(tmp_path: Path) -> None:
    message = error(tar(tmp_path / "pets.tar", "1.png", "2.png"))
    assert message.startswith(f"{tmp_path / 'pets.tar'} was unpacked, but: The pictures lie directly in")


def test_a_file_in_the_way_of_a_folder(tmp_path: Path, home: Path) -> None:
    assert "cannot be unpacked" in error(tar(tmp_path / "pets.tar", "cat.png", "cat.png/1.png"))
    assert not list((home / "archives").iterdir())


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tar(tmp_path / "pets.tar", "cat/1.png", "dog/1.png")
    monkeypatch.setenv("SIGHTLINE_HOME", "/proc/sightline")
    assert f"{file} cannot be unpacked" in error(file)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIGHTLINE_HOME", str(tmp_path / "file"))
    assert f"{file} cannot be unpacked into {tmp_path / 'file' / 'archives'}: Not a directory" in error(file)


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    import shutil

    file = tar(tmp_path / "pets.tar", "cat/1.png", "dog/1.png")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 600))
    assert "does not fit on the disk" in error(file)
    assert not list((home / "archives").iterdir())


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, home: Path) -> None:
    """As on a full disk: here the process may not write files of more than 4 KB."""
    file = tar(tmp_path / "pets.tar", "cat/1.png", "dog/1.png", data=bytes(100_000))
    script = """
        import resource, signal, sys
        from sightline.data import open_dataset
        from sightline.errors import SightlineError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            open_dataset(sys.argv[1])
        except SightlineError as error:
            print(error)
    """
    run = [sys.executable, "-c", textwrap.dedent(script), file]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert said == f"{file} cannot be unpacked into {home / 'archives'}: File too large.\n"
    assert not list((home / "archives").iterdir())


def test_two_processes_at_once(tmp_path: Path, home: Path) -> None:
    file = tar(
        tmp_path / "pets.tar.gz", *(f"{label}/{i}.png" for label in ("cat", "dog") for i in range(200))
    )
    script = "import sys; from sightline.data import open_dataset; print(len(open_dataset(sys.argv[1])))"
    runs = [
        subprocess.Popen([sys.executable, "-c", script, file], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [run.communicate() for run in runs] == [(b"400\n", b"")] * 3
    assert len(list((home / "archives").iterdir())) == 1


def test_a_killed_process_leaves_no_half_data_set(tmp_path: Path, home: Path) -> None:
    left = tree(home / "archives" / ".part-0", "cat/1.png")
    os.utime(left, (0, 0))
    recent = tree(home / "archives" / ".part-1", "cat/1.png")
    assert len(open_dataset(tar(tmp_path / "pets.tar", "cat/1.png", "dog/1.png"))) == 2
    assert not left.exists()
    assert recent.exists()  # another process may be at work on it


def test_real_archives() -> None:
    data = open_dataset(data_root("omniglot") / "omniglot.tar.gz")
    assert len(data.classes) == 136
    assert (len(data.split("train")), len(data.split("test"))) == (1904, 816)
    assert data[0][0].size == (105, 105)
