"""Sources that declare more than they have are bounded, quarantined, and the job goes on."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm import read_entries
from ravlm.data import lines
from ravlm.data.formats import coco, jsonl, tar_stream, webdataset
from ravlm.data.rows import MAX_KEYS
from ravlm.encoders.hub_files import hash_weights
from ravlm.errors import BrokenData, InvalidInput
from ravlm.records import Entry


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    """Each attack took minutes, hours or for ever; here all of a source is read in seconds."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 20


def read(path: Path) -> tuple[list[Entry], list[str]]:
    """Return the entries of a source and the reasons of its quarantine."""
    stream = read_entries(path)
    return list(stream), [item.reason for item in stream.quarantine if not item.is_note]


def member(name: str, data: bytes, **fields: object) -> bytes:
    """Return a file of a tar archive; `fields` of its header are changed."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


SAMPLES = member("a.txt", b"a text") + member("last.txt", b"incomplete, as what follows is damaged")


# lines


def test_a_line_without_end_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of 1 GB was read into memory, and its JSON took twenty times as much."""
    monkeypatch.setattr(lines.bounded_lines, "__defaults__", (1000,))
    rows = ['{"text": "a"}', '{"text": "' + "b" * 5000 + '"}', '{"text": "c"}', "[" * 3000]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    entries, reasons = read(tmp_path / "a.jsonl")
    assert [entry.text for entry in entries] == ["a", "c"]
    assert [reason.split(" than")[0] for reason in reasons] == ["The line is longer"] * 2
    table = ["id,text", "1,a", "2," + "b" * 5000, '3,"c', 'd"', '4,"' + "e" * 5000, '"', "5,f"]
    (tmp_path / "a.csv").write_text("\n".join(table))
    entries, reasons = read(tmp_path / "a.csv")
    assert [(entry.id, entry.text) for entry in entries] == [("1", "a"), ("3", "c\nd"), ("5", "f")]
    assert len(reasons) == 3  # a long line, a long line, and the quote after it
    tokens = ["nowhere.jpg#0\tone", "nowhere.jpg#1\t" + "b" * 5000]
    (tmp_path / "a.token").write_text("\n".join(tokens))
    assert len(read(tmp_path / "a.token")[1]) == 2  # its image does not exist


def test_lines_are_cut_where_their_limit_says() -> None:
    text = "12345\n123456\n\n12345"
    expected = ["12345\n", None, "\n", "12345"]
    assert list(lines.bounded_lines(io.StringIO(text), 6)) == expected
    assert [
        line if line is None else line.decode()
        for line in lines.bounded_lines(io.BytesIO(text.encode()), 6)
    ] == expected
    assert list(lines.bounded_lines(io.StringIO("1234567"), 6)) == [None]
    assert list(lines.bounded_lines(io.StringIO("123456\n"), 6)) == [None]


def test_an_array_that_memory_does_not_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "MAX_ARRAY_BYTES", 100)
    (tmp_path / "a.json").write_text(json.dumps([{"text": "a"}] * 20))
    with pytest.raises(BrokenData, match="one object per line"):
        read(tmp_path / "a.json")


def test_deep_objects_are_quarantined(tmp_path: Path) -> None:
    """Metadata in 900 levels ended the whole job with a RecursionError."""
    deep = '{"text": "deep", "a": ' + '{"a":' * 900 + "1" + "}" * 900 + "}"
    (tmp_path / "a.jsonl").write_text(f'{deep}\n{{"text": "flat"}}\n')
    entries, reasons = read(tmp_path / "a.jsonl")
    assert [entry.text for entry in entries][-1] == "flat"
    assert len(entries) + len(reasons) == 2


# columns and keys


def test_60000_columns_are_refused_at_once(tmp_path: Path) -> None:
    """Each name was compared with all others: 3.6 billion comparisons for one file."""
    names = [f"column{i}" for i in range(60_000)]
    (tmp_path / "a.csv").write_text(",".join(["text", *names]) + "\n" + ",".join("a" * 60_001))
    with pytest.raises(BrokenData, match="60,001 columns"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(",".join(["text", *names[:5000], "x", "x"]) + "\n")
    with pytest.raises(InvalidInput, match='two columns called "x"'):
        read(tmp_path / "b.csv")


def test_a_row_of_too_many_keys_is_quarantined(tmp_path: Path) -> None:
    keys = {f"k{i}": i for i in range(MAX_KEYS)}
    rows = [{"text": "wide"} | keys, {"text": "narrow"}]
    twice = ",".join(f'"k{i}": 1' for i in range(60_000))
    content = [*map(json.dumps, rows), f'{{{twice}, "k59999": 2}}']
    (tmp_path / "a.jsonl").write_text("\n".join(content))
    entries, reasons = read(tmp_path / "a.jsonl")
    assert [entry.text for entry in entries] == ["narrow"]
    assert "10,001 keys" in reasons[0]
    assert 'the key "k59999" occurs twice' in reasons[1]


# archives


@pytest.mark.parametrize("size", [2**62, 2**40, -1])
@pytest.mark.parametrize("name", ["b.txt", "b.bin"])
def test_sizes_beyond_the_end_of_a_shard(tmp_path: Path, size: int, name: str) -> None:
    """`tarfile` skipped a file of 2^62 bytes in blocks of 10 kB, most of them after the end."""
    shard = SAMPLES + member(name, b"", size=size) + member("c.txt", b"c")
    (tmp_path / "s.tar").write_bytes(shard + bytes(1024))
    entries, reasons = read(tmp_path / "s.tar")
    assert [entry.id for entry in entries] == ["a"]
    assert f"has the size {size:,}" in reasons[0]


@pytest.mark.parametrize(
    "type_", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_long_headers_are_not_read(tmp_path: Path, type_: bytes) -> None:
    """A name of any length was read into memory before its file was."""
    zeros = bytes(2 << 20)
    content = SAMPLES + member("n", zeros, type=type_) + member("b.txt", b"b")
    (tmp_path / "s.tar.gz").write_bytes(gzip.compress(content))
    entries, reasons = read(tmp_path / "s.tar.gz")
    assert [entry.id for entry in entries] == ["a"]
    assert "a header has the size 2,097,152" in reasons[0]


def test_chains_of_headers_and_sparse_files_end(tmp_path: Path) -> None:
    chain = b"".join(
        member("h", b"20 comment=123456789\n", type=tarfile.XHDTYPE) for _ in range(999)
    )
    (tmp_path / "chain.tar").write_bytes(SAMPLES + chain + bytes(1024))
    entries, reasons = read(tmp_path / "chain.tar")
    assert [entry.id for entry in entries] == ["a"]
    assert reasons
    sparse = SAMPLES + member("b.txt", bytes(512), type=tarfile.GNUTYPE_SPARSE)
    (tmp_path / "sparse.tar").write_bytes(sparse + bytes(1024))
    entries, reasons = read(tmp_path / "sparse.tar")
    assert [entry.id for entry in entries] == ["a"]
    assert "sparse" in reasons[0]


def test_a_gzip_bomb_is_read_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tar.gz of 10 MB holds 10 GB. Its samples before that are kept."""
    monkeypatch.setattr(tar_stream, "MIN_EXPANDED_BYTES", 1 << 22)
    compress = zlib.compressobj(9, wbits=31)
    data = compress.compress(SAMPLES)
    data += compress.compress(member("b.bin", b"", size=1 << 24)[:512])
    for _ in range(16):
        data += compress.compress(bytes(1 << 20))
    (tmp_path / "s.tar.gz").write_bytes(data + compress.flush())
    entries, reasons = read(tmp_path / "s.tar.gz")
    assert [entry.id for entry in entries] == ["a"]
    assert "has the size 16,777,216" in reasons[0]
    small = b"".join(member(f"{i}.bin", bytes(1 << 18)) for i in range(64))
    (tmp_path / "t.tar.gz").write_bytes(gzip.compress(SAMPLES + small))
    entries, reasons = read(tmp_path / "t.tar.gz")
    assert [entry.id for entry in entries] == ["a"]
    assert "times its size" in reasons[0]


def test_the_files_of_a_sample_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 files of 100 MB each were held to find out which dot separates name and type."""
    monkeypatch.setattr(webdataset, "_MAX_HELD_BYTES", 1000)
    monkeypatch.setitem(webdataset._MAX_BYTES, "text", 1000)
    many = [member(f"a.{i}.txt", b"x" * 400) for i in range(9)]
    repeated = [member("b.txt", b"y" * 400) for _ in range(9)]
    (tmp_path / "s.tar").write_bytes(
        b"".join([*many, *repeated, member("c.txt", b"c")]) + bytes(1024)
    )
    entries, reasons = read(tmp_path / "s.tar")
    assert [entry.id for entry in entries] == [*(f"a.{i}" for i in range(9)), "c"]
    assert [reason.startswith("Its texts have more than") for reason in reasons] == [True]


def test_the_images_of_a_shard_are_its_members(tmp_path: Path) -> None:
    """The JSON of a sample could name any file of the machine that reads it."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    rows = {
        "a": {"image": "secret.png", "text": "relative"},
        "b": {"image": str(tmp_path / "secret.png"), "text": "absolute"},
        "c": {"image": "https://example.org/c.png", "text": "an address"},
    }
    shard = [member(f"{key}.json", json.dumps(row).encode()) for key, row in rows.items()]
    shard.append(member("d.png", b"", type=tarfile.SYMTYPE, linkname="secret.png"))
    (tmp_path / "s.tar").write_bytes(b"".join(shard) + bytes(1024))
    entries, reasons = read(tmp_path / "s.tar")
    assert [entry.text for entry in entries] == ["an address"]
    assert len(reasons) == 2
    assert all("must be in the shard" in reason for reason in reasons)


# Parquet


def test_parquet_that_expands_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes hold one long text for a million rows: 64 rows of it were read at a time."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    from ravlm.data.formats import parquet

    def write(name: str, texts: list[str], rows: int) -> Path:
        column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(texts))
        table = pa.table({"text": column.cast(pa.string()), "n": list(range(rows))})
        pq.write_table(table, tmp_path / name, compression="zstd", dictionary_pagesize_limit=2**30)
        return tmp_path / name

    bomb = write("bomb.parquet", ["x" * 1_000_000], 40)
    group = pq.ParquetFile(bomb).metadata.row_group(0)
    assert parquet._bounded_batch_size(group) == 64
    monkeypatch.setattr(parquet, "MAX_BATCH_BYTES", 2_000_000)
    assert parquet._bounded_batch_size(group) <= 2
    assert len(read(bomb)[0]) == 40
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "MIN_EXPANDED_BYTES", 10_500_000)
        patch.setattr(parquet, "MAX_EXPANSION", 1)
        entries, reasons = read(bomb)
        assert len(entries) == 10
        assert "times as large as the file" in reasons[0]
    monkeypatch.setattr(parquet, "MAX_BATCH_BYTES", 100_000)
    entries, reasons = read(bomb)
    assert entries == []
    assert 'the column "text" expands to' in reasons[0]
    plain = write("plain.parquet", ["a cat"], 500)
    assert parquet._bounded_batch_size(pq.ParquetFile(plain).metadata.row_group(0)) == 64
    monkeypatch.setattr(parquet, "MAX_ROWS_PER_BYTE", 0.01)
    with pytest.raises(BrokenData, match="500 rows, too many for its size"):
        read(plain)


# weights


@pytest.mark.parametrize("end", [2**62, 9, 7, -4])
def test_weights_beyond_the_end_of_their_file(tmp_path: Path, end: int) -> None:
    """The hash of a tensor of 2^62 bytes was computed from a file of 100."""
    header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, end]}}
    encoded = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(8))
    with pytest.raises(BrokenData, match="are damaged"):
        hash_weights([path])
    path.write_bytes((2**63).to_bytes(8, "little") + encoded + bytes(8))
    with pytest.raises(BrokenData, match="are damaged"):
        hash_weights([path])


def test_sound_weights_have_a_hash(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.arange(2, dtype=np.float32)}, tmp_path / "model.safetensors")
    assert len(hash_weights([tmp_path / "model.safetensors"])) == 64


def test_an_endless_item_of_coco_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item was parsed again with each further megabyte, up to 268 of them."""
    monkeypatch.setattr(coco, "MAX_LINE", 1 << 20)
    head = '{"annotations": [{"image_id": 1, "caption": "'
    (tmp_path / "a.json").write_text(head + "a" * (1 << 23) + '"}], "images": []}')
    with pytest.raises(BrokenData):
        read(tmp_path / "a.json")
