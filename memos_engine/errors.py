"""Every error this engine raises, as one tree.

MemosError
├── BadInput (ValueError)              what was handed over cannot be taken
│   ├── BadText                        blank, too long, or not valid Unicode
│   ├── BadTime                        a naive datetime, or one out of range
│   ├── BadLimit                       a negative or absurd limit, budget or batch
│   ├── BadName                        a cube, user, namespace or key that cannot be a name
│   ├── BadValue (TypeError)           a value of a key-value entry that is no JSON object
│   ├── BadVector                      an embedder returned the wrong shape, dtype or NaN
│   └── ModelRefused                   a model's server refused the key, the model or the request
├── Conflict (ValueError)              it contradicts what is already stored
│   ├── MessageConflict                a message id was captured with other content
│   ├── IdempotencyConflict            an idempotency key was used for another call
│   └── VersionConflict                `update` expected another version
├── NotFound (LookupError)             it is not there, or not yours to see
│   ├── CubeNotFound
│   └── ItemNotFound
├── AccessDenied (PermissionError)     this scope may not do that
│   └── IdentityMissing                nobody is named; no identity, no memory
├── EmbedderMismatch (ValueError)      the cube was built with another embedder
├── EmbedderUnavailable (RuntimeError) no weights; the message says what to type
├── ModelUnavailable (RuntimeError)    a reranker or chat model cannot be had, or its server not reached
├── ModelFailed (RuntimeError)         a reranker or chat model answered what is no answer
├── Closed (RuntimeError)              used after `close`
├── StoreError (OSError)               the disk or the database failed
│   ├── BadRoot                        the path is a file, read-only or not ours
│   ├── StoreFull                      no space left; nothing was written
│   ├── StoreBusy                      another process held the lock too long
│   ├── StoreDamaged                   the database or a file of it is malformed
│   └── SchemaTooNew                   written by a newer version of this package
├── ArchiveError (ValueError)          a cube file cannot be loaded
│   ├── ArchiveUnsafe                  path traversal, link, device, or a bomb
│   ├── ArchiveDamaged                 truncated, malformed, or a wrong checksum
│   └── ArchiveForeign                 another format or a newer version of it
└── JobFailed (RuntimeError)           `drain` met a job that ended as a dead letter

A message says what happened, shows the value with `{value!r}`, and ends with the cure. Leaves
also inherit the builtin that fits, so `except ValueError` and friends work as expected.
"""

__all__ = [
    "AccessDenied",
    "ArchiveDamaged",
    "ArchiveError",
    "ArchiveForeign",
    "ArchiveUnsafe",
    "BadInput",
    "BadLimit",
    "BadName",
    "BadRoot",
    "BadText",
    "BadTime",
    "BadValue",
    "BadVector",
    "Closed",
    "Conflict",
    "CubeNotFound",
    "EmbedderMismatch",
    "EmbedderUnavailable",
    "IdempotencyConflict",
    "IdentityMissing",
    "ItemNotFound",
    "JobFailed",
    "MemosError",
    "MessageConflict",
    "ModelFailed",
    "ModelRefused",
    "ModelUnavailable",
    "NotFound",
    "SchemaTooNew",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "VersionConflict",
]


class MemosError(Exception):
    """Base of every error this engine raises."""


class BadInput(MemosError, ValueError):
    """What was handed over cannot be taken; the store is as it was."""


class BadText(BadInput):
    """Text that is blank, too long, or not valid Unicode."""


class BadTime(BadInput):
    """A naive datetime, or one outside the years this engine stores."""


class BadLimit(BadInput):
    """A negative or absurd limit, budget or batch size."""


class BadName(BadInput):
    """A cube, user, namespace or key that cannot be a name."""


class BadValue(BadInput, TypeError):
    """A value of a key-value entry that is no JSON object."""


class BadVector(BadInput):
    """An embedder returned vectors of the wrong shape or dtype, or with NaN."""


class Conflict(MemosError, ValueError):
    """The call contradicts what is already stored; the store is as it was."""


class MessageConflict(Conflict):
    """A message id of this thread was captured before with other content."""


class IdempotencyConflict(Conflict):
    """An idempotency key was used before for another call."""


class VersionConflict(Conflict):
    """`update` expected another version than the stored one."""


class NotFound(MemosError, LookupError):
    """It is not there, or not yours to see: the two are told alike on purpose."""


class CubeNotFound(NotFound):
    """No cube of that name that this scope may see."""


class ItemNotFound(NotFound):
    """No item of that id in this cube that this scope may see."""


class AccessDenied(MemosError, PermissionError):
    """This scope lacks the right the call needs."""


class IdentityMissing(AccessDenied):
    """Nothing says who is asking: no identity, no memory."""


class EmbedderMismatch(MemosError, ValueError):
    """The cube's vectors were made by another embedder than the one it is opened with."""


class EmbedderUnavailable(MemosError, RuntimeError):
    """The embedder's weights or runtime are not there and cannot be had."""


class Closed(MemosError, RuntimeError):
    """The handle was used after `close`."""


class StoreError(MemosError, OSError):
    """The disk or the database failed; nothing of the call was stored."""


class BadRoot(StoreError):
    """The root cannot hold memories: a file, read-only, or a foreign database."""


class StoreFull(StoreError):
    """No space left on the disk; nothing of the call was stored."""


class StoreBusy(StoreError):
    """Another process held the write lock longer than the time-out."""


class StoreDamaged(StoreError):
    """A database or a file of the cube is malformed."""


class SchemaTooNew(StoreError):
    """The store was written by a newer version of this package."""


class ArchiveError(MemosError, ValueError):
    """A cube file cannot be loaded; nothing of it was taken."""


class ArchiveUnsafe(ArchiveError):
    """The archive holds a path traversal, a link, a device, or is a bomb."""


class ArchiveDamaged(ArchiveError):
    """The archive is truncated or malformed, or a checksum is wrong."""


class ArchiveForeign(ArchiveError):
    """The archive is of another format, or of a newer version of it."""


class JobFailed(MemosError, RuntimeError):
    """A background job ended as a dead letter; its last error is the message."""


class ModelRefused(BadInput):
    """A model's server refused the request: its key, the model's name, or what was sent."""


class ModelUnavailable(MemosError, RuntimeError):
    """A reranker or chat model cannot be had: no weights, no runtime, or its server does not serve."""


class ModelFailed(MemosError, RuntimeError):
    """A reranker or chat model answered what is no answer: malformed, the wrong shape, or not finite."""
