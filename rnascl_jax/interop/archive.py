"""The zip archives of `torch.save`, read strictly.

Programs that read zip files disagree about a damaged or a crafted one: what one
finds in it, another does not. So this reader takes an archive only if there is
one way to read it, and if it is as `torch.save` writes it:

- the directory at the end of the file and the header before each record agree;
- records lie one behind the other and fill the file, up to the directory;
- they are stored as they are, so that no small file becomes a large one;
- their CRC-32 are right;
- no name is there twice, and all names are those of a pickle with its tensors.
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence

_HEADER = struct.Struct('<4s5H3L2H')
_ENTRY_SIZE = 46
# Stands in a field of 2 or 4 bytes for a value that has 8 bytes elsewhere.
_WIDE_2, _WIDE_4 = 0xFFFF, 0xFFFFFFFF
# Flags: sizes follow the record; the name is in UTF-8.
_SIZES_FOLLOW, _UTF8 = 1 << 3, 1 << 11
# Extra fields: sizes of 8 bytes; what PyTorch fills up to an aligned place.
_ZIP64, _PADDING = 1, 0x4246
# What `torch.save` writes, behind the name of the archive.
_NAME = re.compile(
  r'data\.pkl|data/\d{1,20}|version|byteorder|\.format_version'
  r'|\.storage_alignment|\.data/(?:version|serialization_id)'
)
_SCRIPT = re.compile(r'constants\.pkl|constants/.*|code/.*|.*\.debug_pkl')


class UnsupportedError(ValueError):
  """A file is sound, and of a kind that is not read; says what to do."""


def records(content: bytes) -> dict[str, memoryview]:
  """The records of an archive.

  Args:
    content: the file's bytes.

  Returns:
    The bytes of each record by its name behind that of the archive, such as
    'data.pkl' and 'data/0'.

  Raises:
    UnsupportedError: it is of TorchScript, or compressed.
    ValueError: it is not an archive of `torch.save`, or it is damaged.
  """
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
      entries, start = file.infolist(), file.start_dir
  except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
    raise ValueError(str(error)) from error
  prefix = entries[0].orig_filename.partition('/')[0] + '/' if entries else ''
  names = [entry.orig_filename.removeprefix(prefix) for entry in entries]
  if any(map(_SCRIPT.fullmatch, names)):
    raise UnsupportedError(
      'is a TorchScript archive, which is code: save its state_dict() instead'
    )
  for entry, name in zip(entries, names, strict=True):
    whole = entry.orig_filename
    if whole != prefix + name or not _NAME.fullmatch(name):
      raise ValueError(f'it has a record {whole!r}')
    if entry.compress_type:
      raise UnsupportedError(
        f'has {whole!r} compressed, as torch.save does not write it: save '
        'it again, torch.save(torch.load(path, weights_only=True), path)'
      )
  if len(set(names)) < len(names) or 'data.pkl' not in names:
    raise ValueError('it has no data.pkl, or two records of one name')
  _check_directory(content, entries, start)
  view = memoryview(content)
  bytes_by_name, end = {}, start
  for entry in sorted(entries, key=lambda e: e.header_offset, reverse=True):
    region, end = view[entry.header_offset : end], entry.header_offset
    bytes_by_name[entry.orig_filename.removeprefix(prefix)] = _record(
      region, entry
    )
  if end:
    raise ValueError('there is something before its first record')
  return bytes_by_name


def _check_directory(
  content: bytes, entries: Sequence[zipfile.ZipInfo], start: int
) -> None:
  """Raises for a directory that is not all between the records and the end."""
  for entry in entries:
    is_plain = not entry.flag_bits & ~(_SIZES_FOLLOW | _UTF8)
    if not is_plain or entry.volume or entry.comment:
      raise ValueError(
        f'{entry.orig_filename!r} is encrypted or split, or has a comment'
      )
    _check_extra(entry.extra)
  sizes = [_ENTRY_SIZE + len(_name(e)) + len(e.extra) for e in entries]
  count, size = len(entries), sum(sizes)
  ends = content[start + size :]
  short = struct.pack(
    '<4s4H2LH',
    *(b'PK\5\6', 0, 0, min(count, _WIDE_2), min(count, _WIDE_2)),
    *(min(size, _WIDE_4), min(start, _WIDE_4), 0),
  )
  wide = struct.pack(
    '<4sQ4s2L4Q',
    *(b'PK\6\6', 44, ends[12:16], 0, 0, count, count, size, start),
  )
  locator = struct.pack('<4sLQL', b'PK\6\7', 0, start + size, 1)
  if ends not in (short, wide + locator + short):
    raise ValueError('its directory is not what its end says')


def _record(region: memoryview, entry: zipfile.ZipInfo) -> memoryview:
  """The bytes of a record, which the region up to the next one must be."""
  if len(region) < _HEADER.size:
    raise ValueError('it ends too early')
  fields, name, size = (
    _HEADER.unpack_from(region),
    _name(entry),
    entry.file_size,
  )
  extra_at = _HEADER.size + len(name)
  data_at = extra_at + fields[10]
  extra = bytes(region[extra_at:data_at])
  _check_extra(extra)
  short = min(size, _WIDE_4)
  if entry.flag_bits & _SIZES_FOLLOW:
    numbers = [0, 0, 0]
    ends = [
      struct.pack('<4s3L', b'PK\7\x08', entry.CRC, short, short),
      struct.pack('<4sL2Q', b'PK\7\x08', entry.CRC, size, size),
    ]
  else:
    is_wide = extra.startswith(struct.pack('<2H2Q', _ZIP64, 16, size, size))
    numbers = [entry.CRC, *2 * [_WIDE_4 if is_wide else short]]
    ends = [b'']
  needed = entry.extract_version | entry.reserved << 8
  header = (b'PK\3\4', needed, entry.flag_bits, 0, *fields[4:6], *numbers)
  data, rest = region[data_at:][:size], bytes(region[data_at + size :])
  if (
    (*header, len(name), len(extra)) != fields
    or region[_HEADER.size : extra_at] != name
    or entry.compress_size != size
    or rest not in ends
  ):
    raise ValueError(
      f'{entry.orig_filename!r} is not where or what its directory says'
    )
  if len(data) != size or zlib.crc32(data) != entry.CRC:
    raise ValueError(
      f'the bytes of {entry.orig_filename!r} are not those of its CRC-32, or '
      'it was saved after torch.serialization.set_crc32_options(False)'
    )
  return data


def _name(entry: zipfile.ZipInfo) -> bytes:
  codec = 'utf-8' if entry.flag_bits & _UTF8 else 'cp437'
  return entry.orig_filename.encode(codec)


def _check_extra(content: bytes) -> None:
  """Raises for extra fields that are not whole or known, or are there twice."""
  known = {_ZIP64, _PADDING}
  while content:
    number, size = struct.unpack('<2H', content[:4].ljust(4, b'\0'))
    if number not in known or size + 4 > len(content):
      raise ValueError(f'it has an extra field {number:#06x}')
    known.remove(number)
    content = content[4 + size :]
