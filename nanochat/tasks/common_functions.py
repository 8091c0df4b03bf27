"""A fixed list of about 300 common functions, built in or in the standard library.

Users of a small assistant ask about these first, so their summaries get extra weight in training, and the assistant is
evaluated on them. The list was compiled by hand from the functions that tutorials and programs call.
"""

from __future__ import annotations

BUILTIN = """
abs all any ascii bin bool callable chr compile complex delattr dir divmod enumerate eval exec filter float format
frozenset getattr globals hasattr hash hex id input int isinstance issubclass iter len list locals map max min next
oct open ord pow print property range repr reversed round set setattr sorted str sum tuple type zip
"""

METHODS = """
str.capitalize str.center str.count str.encode str.endswith str.find str.format str.isalnum str.isalpha str.isdigit
str.islower str.isspace str.isupper str.join str.ljust str.lower str.lstrip str.partition str.removeprefix
str.removesuffix str.replace str.rfind str.rjust str.rsplit str.rstrip str.split str.splitlines str.startswith
str.strip str.swapcase str.title str.upper str.zfill list.append list.clear list.copy list.count list.extend
list.index list.insert list.pop list.remove list.sort dict.get dict.items dict.keys dict.pop dict.setdefault
dict.update dict.values set.add set.difference set.discard set.intersection set.remove set.union set.update
bytes.decode bytes.hex
"""

STANDARD_LIBRARY = """
argparse.ArgumentParser ast.literal_eval asyncio.gather asyncio.run asyncio.sleep base64.b64decode base64.b64encode
bisect.bisect_left calendar.isleap collections.Counter collections.OrderedDict collections.deque
collections.namedtuple contextlib.suppress copy.copy copy.deepcopy dataclasses.asdict dataclasses.dataclass
dataclasses.field datetime.datetime.now datetime.datetime.strptime datetime.datetime.timestamp datetime.timedelta
difflib.get_close_matches difflib.unified_diff enum.Enum fnmatch.fnmatch fractions.Fraction functools.cache
functools.lru_cache functools.reduce functools.wraps getpass.getuser glob.glob glob.iglob gzip.open heapq.heapify
heapq.heappop heapq.heappush heapq.nlargest heapq.nsmallest html.escape html.unescape importlib.import_module
inspect.getsource inspect.signature itertools.accumulate itertools.chain itertools.combinations itertools.count
itertools.cycle itertools.groupby itertools.islice itertools.permutations itertools.product itertools.repeat
itertools.takewhile itertools.zip_longest json.dump json.dumps json.load json.loads logging.basicConfig logging.debug
logging.error logging.getLogger logging.info logging.warning math.ceil math.comb math.cos math.degrees math.dist
math.exp math.factorial math.floor math.fmod math.fsum math.gcd math.hypot math.isclose math.isfinite math.isinf
math.isnan math.isqrt math.lcm math.log math.log10 math.log2 math.perm math.pow math.prod math.radians math.sin
math.sqrt math.tan math.trunc operator.itemgetter os.chdir os.cpu_count os.getcwd os.getenv os.getpid os.listdir
os.makedirs os.mkdir os.path.abspath os.path.basename os.path.commonpath os.path.dirname os.path.exists
os.path.expanduser os.path.getsize os.path.isabs os.path.isdir os.path.isfile os.path.islink os.path.join
os.path.normpath os.path.relpath os.path.split os.path.splitext os.remove os.rename os.replace os.rmdir os.scandir
os.stat os.system os.unlink os.urandom os.walk pathlib.Path.exists pathlib.Path.glob pathlib.Path.is_dir
pathlib.Path.is_file pathlib.Path.iterdir pathlib.Path.mkdir pathlib.Path.read_text pathlib.Path.unlink
pathlib.Path.with_suffix pathlib.Path.write_text platform.platform platform.python_version platform.system
pprint.pprint queue.Queue random.choice random.choices random.randint random.random random.randrange random.sample
random.seed random.shuffle random.uniform re.compile re.escape re.findall re.finditer re.fullmatch re.match re.search
re.split re.sub secrets.token_hex shlex.quote shlex.split shutil.copy shutil.copy2 shutil.copyfile shutil.copytree
shutil.move shutil.rmtree shutil.which statistics.fmean statistics.mean statistics.median statistics.pstdev
statistics.stdev statistics.variance subprocess.Popen subprocess.check_output subprocess.run sys.exit
sys.getrecursionlimit sys.getsizeof tempfile.NamedTemporaryFile tempfile.TemporaryDirectory tempfile.mkdtemp
textwrap.dedent textwrap.fill textwrap.indent textwrap.wrap threading.Thread time.perf_counter time.sleep
time.strftime time.strptime time.time timeit.timeit traceback.format_exc traceback.print_exc typing.cast
typing.get_type_hints urllib.parse.quote urllib.parse.urlencode urllib.parse.urljoin urllib.parse.urlparse
urllib.request.urlopen uuid.uuid1 uuid.uuid4 warnings.warn webbrowser.open zipfile.ZipFile
"""

# Other names, or prefixes of names, under which the documentation has functions that several modules or classes share.
ALIASES = {
    "open": ("_pyio.open",),
    "str.replace": ("bytearray.replace",),
    "set.": ("frozenset.",),
    "os.path.": ("posixpath.", "genericpath.", "ntpath."),
    "asyncio.": ("asyncio.tasks.", "asyncio.runners."),
    "random.": ("random.Random.",),
    "pathlib.Path.": ("pathlib.PurePath.",),
}

FUNCTIONS = tuple(dict.fromkeys((BUILTIN + METHODS + STANDARD_LIBRARY).split()))


def documented_names(name: str) -> list[str]:
    """The names under which the documentation may have a function of the list, starting with ``name`` itself."""
    aliases = [
        alias + name.removeprefix(prefix)
        for prefix, alias_prefixes in ALIASES.items()
        if name == prefix or (prefix.endswith(".") and name.startswith(prefix))
        for alias in alias_prefixes
    ]
    return [name, *aliases]
