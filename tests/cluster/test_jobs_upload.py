"""What of a folder would travel, and what is refused before it does; the way to the cluster."""

from zipfile import ZipFile

import pytest
from ray._private.runtime_env.packaging import create_package
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed

from antiphon.errors import UserError
from cluster.jobs.connection import choose_auth, only, warning_of
from cluster.jobs.upload import MIB, look_at


@pytest.fixture
def folder(tmp_path):
    contents = {
        "small.yaml": 10,
        "code/a.py": 20,
        "code/__pycache__/a.pyc": 1000,
        "runs/old/metrics.jsonl": 1000,
        ".git/config": 1000,
        "data/big.bin": 3 * MIB,
        "notes/private.md": 5,
    }
    for path, size in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * size)
    (tmp_path / ".gitignore").write_text("data/\n")
    return tmp_path


def test_what_is_ignored_excluded_or_ray_s_default_stays_behind(folder):
    upload = look_at(folder, ["notes"])
    assert upload.sizes_bytes == {".gitignore": 6, "code/a.py": 20, "small.yaml": 10}
    assert upload.total_bytes == 36
    upload.check("small.yaml", max_bytes=36)


def test_what_is_listed_is_what_ray_packs(folder, tmp_path_factory):
    """Mutation: `look_at` leaves out what Ray does not, or the other way round."""
    archive = tmp_path_factory.mktemp("packed") / "package.zip"

    def pack(working_dir, excludes, is_file=False):
        create_package(working_dir, archive, include_gitignore=True, excludes=excludes)

    (folder / ".rayignore").write_text("*.md\n")
    upload = look_at(folder, ["code/b.py"])
    (folder / "code" / "b.py").write_text("")
    environment = {"working_dir": str(upload.folder), "excludes": list(upload.excludes)}
    upload_working_dir_if_needed(environment, include_gitignore=True, upload_fn=pack)
    with ZipFile(archive) as packed:
        files = sorted(name for name in packed.namelist() if not name.endswith("/"))
    assert files == sorted(upload.sizes_bytes) == [".gitignore", ".rayignore", "code/a.py", "small.yaml"]


def test_too_much_is_refused_with_the_sum_and_the_largest(folder):
    """Mutation: the limit is compared the other way round."""
    (folder / ".gitignore").unlink()
    upload = look_at(folder)
    with pytest.raises(UserError, match=r"3.0 MiB to upload, the limit is 2.0 MiB: data/ 3.0 MiB, code/"):
        upload.check("small.yaml", max_bytes=2 * MIB)


@pytest.mark.parametrize("name", [".env", ".env.local", "tls.key", "server.pem", "id_rsa", "auth_token"])
def test_a_file_that_looks_like_a_secret_is_refused_unless_it_is_excluded(folder, name):
    (folder / "code" / name).write_text("secret")
    with pytest.raises(UserError, match=f"code/{name} looks like a secret"):
        look_at(folder).check("small.yaml", MIB)
    look_at(folder, [f"code/{name}"]).check("small.yaml", MIB)


def test_a_recipe_that_would_stay_behind_is_refused(folder):
    with pytest.raises(UserError, match=r"data/r.yaml is not among the files"):
        look_at(folder).check("data/r.yaml", MIB)


def test_a_working_directory_that_is_not_there_is_refused(folder):
    with pytest.raises(UserError, match="is no folder"):
        look_at(folder / "nowhere")


@pytest.mark.parametrize(
    ("mode", "environ", "words"),
    [
        (None, {}, "no authentication is chosen"),
        (None, {"RAY_AUTH_MODE": "yes"}, "authentication of the cluster is 'yes'"),
        ("token", {"RAY_AUTH_MODE": "disabled"}, "there is no token"),
        (None, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere"}, "there is no token"),
    ],
)
def test_authentication_is_chosen_and_never_guessed(mode, environ, words):
    with pytest.raises(UserError, match=words):
        choose_auth(mode, environ)


def test_the_mode_that_was_chosen_is_what_ray_will_read(tmp_path):
    (tmp_path / "token").write_text("abc")
    for environ in ({"RAY_AUTH_TOKEN": "abc"}, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}):
        assert choose_auth("token", environ) == "token"
        assert environ["RAY_AUTH_MODE"] == "token"
    environ = {"RAY_AUTH_MODE": "token"}
    assert choose_auth("disabled", environ) == environ["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://head:10001", "auto", "http://"])
def test_what_is_no_address_of_a_dashboard_is_refused(address):
    with pytest.raises(UserError, match="not the address of a dashboard"):
        warning_of(address, "token")


def test_a_token_over_an_open_wire_is_warned_of():
    assert "unencrypted" in (warning_of("http://head:8265", "token") or "")
    assert warning_of("http://127.0.0.1:8265", "token") is None
    assert warning_of("https://head:8265", "token") is None
    assert warning_of("http://head:8265", "disabled") is None


def test_the_address_that_was_given_is_the_one_that_is_asked():
    """Ray prefers its variables to the argument. Mutation: they are left where they are."""
    environ = {"RAY_ADDRESS": "elsewhere:6379", "HOME": "/"}
    with only(environ):
        assert environ == {"HOME": "/"}
    assert environ == {"RAY_ADDRESS": "elsewhere:6379", "HOME": "/"}
