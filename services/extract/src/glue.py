"""Loads committed modules under names of their own, so that several deployments live side by side, and the few things that
are easier said in Python than in Rust. Compiled into the native module; nothing imports it by name."""

import builtins
import contextlib
import ctypes
import importlib
import importlib.machinery
import importlib.util
import linecache
import sys
import threading
import traceback
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
ROOT = "thyme_commit_"


class Interrupted(BaseException):
    """Raised inside an extractor that passed its deadline."""


class Commit:
    """The modules of one deployment: `features` is imported as `thyme_commit_3_.features`."""

    def __init__(self, number, modules):
        self.prefix = f"{ROOT}{number}_"
        self.sources = {}
        self.packages = {""}
        for name, path, source in modules:
            self.sources[name] = (path, source)
            if path.endswith("__init__.py"):
                self.packages.add(name)
            for depth in range(1, name.count(".") + 1):
                self.packages.add(name.rsplit(".", depth)[0])

    def has(self, name):
        return name in self.sources or (name in self.packages and name != "")

    def import_module(self, name):
        return importlib.import_module(f"{self.prefix}.{name}")

    def forget(self):
        _commits.pop(self.prefix, None)
        for name in [name for name in sys.modules if name == self.prefix or name.startswith(self.prefix + ".")]:
            del sys.modules[name]

    def importer(self):
        """`__import__` of committed code: committed modules win, and are found under their plain names."""

        def committed_import(name, globals=None, locals=None, fromlist=(), level=0):
            if level > 0 or not self.has(name):
                if level == 0 and not fromlist and self.has(name.partition(".")[0]):
                    # A missing part of a committed package: say its plain name.
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
                return builtins.__import__(name, globals, locals, fromlist, level)
            module = self.import_module(name)
            if not fromlist:
                return sys.modules[f"{self.prefix}.{name.partition('.')[0]}"]
            for part in fromlist:
                if not hasattr(module, part) and self.has(f"{name}.{part}"):
                    self.import_module(f"{name}.{part}")
            return module

        return committed_import


_commits = {}


class Finder:
    """Finds the modules of commits on `sys.meta_path`."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        prefix, _, name = fullname.partition(".")
        commit = _commits.get(prefix)
        if commit is None or not (name in commit.sources or name in commit.packages):
            return None
        loader = Loader(commit, name)
        return importlib.machinery.ModuleSpec(fullname, loader, is_package=name in commit.packages)


class Loader:
    def __init__(self, commit, name):
        self.commit, self.name = commit, name

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if self.name not in self.commit.sources:
            return
        path, source = self.commit.sources[self.name]
        module.__file__ = path
        shown = f"<{self.commit.prefix}>/{path}"
        linecache.cache[shown] = (len(source), None, source.splitlines(True), shown)
        scope = dict(vars(builtins))
        scope["__import__"] = self.commit.importer()
        module.__dict__["__builtins__"] = scope
        exec(compile(source, shown, "exec", dont_inherit=True), module.__dict__)


sys.meta_path.insert(0, Finder)
_loading = threading.Lock()


def load(number, modules):
    """A commit with its modules registered, none run yet."""
    commit = Commit(number, modules)
    _commits[commit.prefix] = commit
    return commit


def run_module(commit, module_name):
    """Runs a module, and what it imports, if it has not run yet."""
    with _loading, _own_registry():
        commit.import_module(module_name)


def function(commit, module_name, qualname):
    """The function of an extractor, taking (ts, ...)."""
    owner, found = None, commit.import_module(module_name)
    for part in qualname.split("."):
        owner, found = found, getattr(found, part)
    return bind(owner, found)


def bind(owner, found):
    """Extractors are methods that take their class."""
    if getattr(found, "__self__", None) is not None or not isinstance(owner, type):
        return found

    def bound(*arguments):
        return found(owner, *arguments)

    bound.extractor = found
    return bound


def _own_registry():
    """Decorators of a committed module must not write to the registry of this process."""
    try:
        from thyme import registry
    except ImportError:
        return contextlib.nullcontext()
    return registry.isolated()


def load_error(error, module_name):
    """Why a module or function cannot be loaded, in one line."""
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(ROOT):
        package = error.name.partition(".")[0]
        return f"module '{module_name}' needs the package '{package}', which is not installed for {python} ({sys.executable})"
    if isinstance(error, AttributeError) and not _frames(error):
        return f"module '{module_name}': {error}".replace(ROOT, "")
    return f"module '{module_name}' cannot be imported: {describe(error)}"


def _frames(error):
    return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<" + ROOT)]


def describe(error):
    """Type, message and the place in committed code."""
    text = str(error)
    name = type(error).__name__
    told = f"{name}: {text}" if text else name
    frames = _frames(error)
    if frames:
        path = frames[-1].filename.partition(">/")[2]
        return f"{told} ({path}:{frames[-1].lineno})"
    live = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    if live:
        return f"{told} ({live[-1].filename.rpartition('/')[2]}:{live[-1].lineno})"
    return told


def to_datetime(micros):
    return EPOCH + timedelta(microseconds=micros)


def to_micros(when):
    if when.tzinfo is None or when.utcoffset() is None:
        raise ValueError("a datetime without a time zone; write datetime(..., tzinfo=timezone.utc)")
    since = when - EPOCH
    return (since.days * 86400 + since.seconds) * 1000000 + since.microseconds


def to_list(column):
    """The items of a column: Arrow, NumPy, pandas, Polars or any iterable."""
    for method in ("to_pylist", "tolist", "to_list"):
        convert = getattr(column, method, None)
        if convert is not None:
            return convert()
    return list(column)


def lookup_error(code, message, hint, field, location):
    """The exception for a lookup or a definition that failed; `location` is `file:line` or None."""
    try:
        from thyme.errors import error_class
    except ImportError:
        return ValueError(message)
    return error_class(code)(message, hint=hint, field=field, location=location)


def interrupt(thread):
    """Raises Interrupted in another thread as soon as it runs Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Interrupted))


def clear_interrupt():
    """Takes back an interrupt of this thread that came too late."""
    try:
        thread = ctypes.c_ulong(threading.get_ident())
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
    except Interrupted:
        pass


def start_worker(context):
    """Makes this thread a worker; returns its identity for `interrupt`."""
    try:
        from thyme._runtime import set_current

        set_current(context)
    except ImportError:
        pass
    return threading.get_ident()


def start_guest(context):
    """The same for a thread that comes and goes: its thread state is kept when it lets go of the interpreter."""
    ctypes.pythonapi.PyGILState_Ensure()
    return start_worker(context)


def end_guest():
    """The end of what `start_guest` began: the thread state goes when this thread lets go of the interpreter."""
    ctypes.pythonapi.PyGILState_Release(0)
