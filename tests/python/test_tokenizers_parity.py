"""Our tokenizers against the `tokenizers` package: the same file must give the same ids and texts."""

import itertools
import json
import os
import pathlib
import random
import subprocess

import pytest

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_program():
    """FOVEA_PROGRAM, or the newest build's."""
    if "FOVEA_PROGRAM" in os.environ:
        return os.environ["FOVEA_PROGRAM"]
    built = [path for path in ROOT.glob("build/*/bin/fovea") if os.access(path, os.X_OK)]
    return str(max(built, key=lambda path: path.stat().st_mtime)) if built else None


PROGRAM = find_program()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="the program fovea is not built")


def fovea(*arguments, lines=()):
    done = subprocess.run([PROGRAM, "tokenizer", *map(str, arguments)],
                          input="".join(line + "\n" for line in lines).encode(),
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode().split("\n")[:-1]


def our_ids(file, texts):
    lines = fovea("encode", "--tokenizer", file, "--json", lines=map(json.dumps, texts))
    return [json.loads(line)["ids"] for line in lines]


def our_texts(file, ids):
    lines = fovea("decode", "--tokenizer", file, "--json", lines=map(json.dumps, ids))
    return [json.loads(line) for line in lines]


def code_points(*ranges):
    return [chr(c) for first, last in ranges for c in range(first, last + 1)]


# What a text is made of. Rarely seen kinds are as frequent as ordinary ones.
INGREDIENTS = [
    ["the ", "a cat", "Don't", "WE'LL", "they've ", "I'm", "he'd", "x's", "''", "'re", "word-play"],
    ["éàü", "Straße", "İstanbul ıI", "ΣΑΣ σς Σ", "ﬁn ﬂ", "Ǆǅǆ", "ſ", "ẞ", "ŉ", "ΐ"],
    ["你好", "世界。", "㐀", "\U00020000\U000323af", "漢字kanji", "かなカナ", "ﾊﾝｶｸ", "！？", "豈"],
    ["😀", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "❤️", "☺", "\U0001f9ff"],
    code_points((0, 8), (14, 31), (127, 159)),
    code_points((0x300, 0x330), (0x345, 0x345), (0x5b0, 0x5b9), (0x64b, 0x652), (0x1dc0, 0x1dcf)),
    ["\t", "\n", "\r\n", "\r", " ", "  ", "   ", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u2028",
     "\u2029", "\u3000", "\u202f", "\u205f", "\u200b", "\u200c", "\u200d", "\ufeff"],
    ["0", "12", "3.14", "½", "²", "Ⅻ", "٣٤", "१२", "①", "一二", "𝟙", "1,000"],
    list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["«»", "…", "—", "„", "”", "¿", "§", "€", "©", "។"],
    ["각", "각", "한국어", "가", "ไทย", "हिन्दी", "العربية", "עברית", "ქართული", "አማርኛ", "ᏣᎳᎩ", "ꮳ"],
    ["\u0378", "\u0e5c", "\U000e0fff", "\ue000", "\ufffe", "\uffff", "\U0010ffff", "\U0001fffe", "\ufffd"],
    ["\u0897", "\U00010d50\U00010d70", "\U00016ea0", "\ua7dc", "\U0001e5d0", "\U00010d40", "\u1c89"],
    ["Å", "Å", "ﷺ", "㎏", "①", "q̣̇", "q̣̇", "가̈", "̀a", "\U0001d15e", "΄", "･", "\U00011938"],
    ["[PAD]", "[MASK]", " [MASK] ", "<x>", "[UNK]", "x[PAD]y", "Ġ", "Ċ", "â", "<0x0A>", "▁"],
]


def corpus():
    generator = random.Random(20261121)
    texts = ["", " ", "\n", "a", "'", "'s", " 's", "  '", "\r\n\r\n", "a  b", "a \n b ", "\n\n a", "   "]
    texts += ["".join(ingredient) for ingredient in INGREDIENTS]
    texts += ["x" * 5000, "ab" * 3000, "é" * 3000, " " * 3000 + "a", "語" * 3000, "a " * 3000,
              "\u0301" * 500, "😀" * 1000, "[PAD]" * 50, "'s" * 500, "1" * 3000]
    for _ in range(600):
        kinds = generator.sample(INGREDIENTS, generator.randint(1, 5)) + [INGREDIENTS[0], [" "]]
        texts.append("".join(
            generator.choice(generator.choice(kinds)) for _ in range(generator.randint(1, 40))))
    for _ in range(150):  # any code points
        texts.append("".join(chr(c) for c in (generator.randrange(generator.choice([0x250, 0x3000, 0x110000]))
                                              for _ in range(30)) if not 0xD800 <= c < 0xE000))
    return texts


TEXTS = corpus()


def check_same(file, theirs, texts=TEXTS, decode=True):
    """Ids of all texts, and the texts of these ids and of random ones."""
    expected = [encoding.ids for encoding in theirs.encode_batch(texts)]
    for text, ours, ids in zip(texts, our_ids(file, texts), expected, strict=True):
        assert ours == ids, repr(text)
    if not decode:
        return
    generator = random.Random(7)
    known = sorted(theirs.get_vocab().values())
    ids = expected + [generator.choices(known, k=20) for _ in range(300)]
    for row, ours in zip(ids, our_texts(file, ids), strict=True):
        assert ours == theirs.decode(row), row


def write_lines(path, texts):
    path.write_bytes("\n".join(texts).encode())
    return path


# ---- files that we write --------------------------------------------------------------------

@pytest.mark.parametrize("options", [
    ["--type", "byte"],
    ["--type", "byte", "--special-tokens", "[PAD]", "[MASK]"],
    ["--type", "bpe", "--vocab-size", "2000"],
    ["--type", "bpe", "--vocab-size", "600", "--special-tokens", "[PAD]", "<x>"],
    ["--type", "word"],
    ["--type", "word", "--split-whitespace"],
    ["--type", "word", "--lowercase", "--min-count", "3", "--vocab-size", "700"],
    ["--type", "word", "--stop-words", "english", "--special-tokens", "[PAD]"],
    ["--type", "word", "--stop-words", "english", "--lowercase"],
], ids=lambda options: "_".join(options[1:]))
def test_package_reads_what_we_train(tmp_path, options):
    file = tmp_path / "tokenizer.json"
    fovea("train", *options, "--input", write_lines(tmp_path / "corpus.txt", TEXTS), "--out", file)
    check_same(file, Tokenizer.from_file(str(file)))


def test_package_keeps_what_we_write(tmp_path):
    """A file that went through the package means the same to us."""
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    fovea("train", "--type", "bpe", "--vocab-size", "1000", "--special-tokens", "[PAD]",
          "--input", write_lines(tmp_path / "corpus.txt", TEXTS), "--out", ours)
    Tokenizer.from_file(str(ours)).save(str(theirs))
    assert our_ids(ours, TEXTS) == our_ids(theirs, TEXTS)


# ---- trainers -------------------------------------------------------------------------------

def real_text():
    """Real prose and code: this repository's own."""
    files = sorted(itertools.chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("fovea/**/*.h"),
                                   ROOT.glob("fovea/**/*.cpp")))
    return [file.read_text() for file in files]


def test_bpe_learns_the_merges_of_the_package(tmp_path):
    texts = real_text()
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=3000, min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    # --jsonl-field gives the same texts, newlines included.
    lines = write_lines(tmp_path / "corpus.jsonl", [json.dumps({"text": text}) for text in texts])
    file = tmp_path / "tokenizer.json"
    fovea("train", "--type", "bpe", "--vocab-size", 3000, "--min-count", 2, "--input", lines,
          "--jsonl-field", "text", "--out", file)
    ours = json.loads(file.read_text())["model"]
    expected = json.loads(theirs.to_str())["model"]
    assert ours["merges"] == expected["merges"]
    assert ours["vocab"] == expected["vocab"]


def test_words_are_those_of_the_package(tmp_path):
    lines = write_lines(tmp_path / "corpus.txt", real_text())
    file = tmp_path / "tokenizer.json"
    fovea("train", "--type", "word", "--vocab-size", 2000, "--min-count", 2, "--input", lines, "--out", file)
    theirs = Tokenizer.from_file(str(file))
    theirs.train([str(lines)], trainers.WordLevelTrainer(
        vocab_size=2000, min_frequency=2, show_progress=False, special_tokens=["[UNK]"]))
    assert json.loads(file.read_text())["model"]["vocab"] == theirs.get_vocab()


# ---- files that the package writes ----------------------------------------------------------

NORMALIZERS = {
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "Lowercase": normalizers.Lowercase(),
    "StripAccents": normalizers.StripAccents(),
    "Strip": normalizers.Strip(),
    "Strip_left": normalizers.Strip(left=True, right=False),
    "Strip_right": normalizers.Strip(left=False, right=True),
    "Replace": normalizers.Replace("a", "bé"),
    "Replace_overlap": normalizers.Replace("  ", " "),
    "Sequence": normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFC()]),
}


def bytes_tokenizer():
    """Shows every byte of the normalized text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizer(tmp_path, name):
    tokenizer = bytes_tokenizer()
    tokenizer.normalizer = NORMALIZERS[name]
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    check_same(file, tokenizer)


SPLIT = pre_tokenizers.Split
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+")
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
PRE_TOKENIZERS = {
    "none": None,
    "ByteLevel": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "ByteLevel_prefix": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "ByteLevel_prefix_no_regex": pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
    "Whitespace": pre_tokenizers.Whitespace(),
    "WhitespaceSplit": pre_tokenizers.WhitespaceSplit(),
    **{f"Punctuation_{b}": pre_tokenizers.Punctuation(b) for b in BEHAVIORS},
    "Digits": pre_tokenizers.Digits(),
    "Digits_single": pre_tokenizers.Digits(individual_digits=True),
    **{f"Split_string_{b}": SPLIT("a", b) for b in BEHAVIORS},
    **{f"Split_string_invert_{b}": SPLIT("a ", b, invert=True) for b in BEHAVIORS},
    **{f"Split_regex_{b}": SPLIT(Regex(r"\s+|[aeiou]"), b) for b in BEHAVIORS},
    **{f"Split_empty_match_{b}": SPLIT(Regex(r"a*"), b) for b in BEHAVIORS},
    **{f"Split_gpt2_{b}": SPLIT(Regex(GPT2), b) for b in BEHAVIORS},
    "Split_gpt2_invert": SPLIT(Regex(GPT2), "removed", invert=True),
    "Split_gpt2_by_icu": SPLIT(Regex("(?:" + GPT2 + ")"), "isolated"),
    "Split_gpt4": SPLIT(Regex(GPT4), "isolated"),
    "Split_words": SPLIT(Regex(r"\w+|[^\w\s]+"), "removed", invert=True),
    "Split_no_word_set": SPLIT(Regex(r"[^\w]+"), "removed"),
    "Split_word_set": SPLIT(Regex(r"[^\W]+"), "removed"),
    "Split_no_word": SPLIT(Regex(r"\W+"), "removed"),
    "Split_boundary": SPLIT(Regex(r"\b"), "isolated"),
    "Split_lines": SPLIT(Regex(r"^|$"), "isolated"),
    "Split_dot": SPLIT(Regex(r"..."), "isolated"),
    "Split_not_words": SPLIT(Regex(r"[\W\s\P{L}]+"), "isolated"),
    "Split_han": SPLIT(Regex("[一-鿿]"), "isolated"),
    "Sequence": pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits()]),
    "Sequence_bytes": pre_tokenizers.Sequence(
        [SPLIT(Regex(GPT4), "isolated"), pre_tokenizers.Digits(True),
         pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]),
}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_pre_tokenizer(tmp_path, name):
    """Every piece of the corpus is a word with an id of its own, so each cut shows."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    if PRE_TOKENIZERS[name] is not None:
        tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(
        special_tokens=["[UNK]"], vocab_size=10**6, show_progress=False))
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    check_same(file, tokenizer)


def every_code_point():
    """Every code point between letters and alone, some thousand a text."""
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    size = 4096
    chunks = [every[i:i + size] for i in range(0, len(every), size)]
    return ["a" + "a".join(chunk) + "a" for chunk in chunks] + ["".join(chunk) for chunk in chunks]


@pytest.mark.parametrize("name", ["ByteLevel", "Whitespace", "WhitespaceSplit", "Punctuation_isolated",
                                  "Digits_single", "Split_gpt2_by_icu", "Split_words",
                                  "Split_no_word_set", "Split_word_set", "Split_no_word"])
def test_every_code_point_has_the_same_class(tmp_path, name):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    check_same(file, tokenizer, every_code_point(), decode=False)


@pytest.mark.parametrize("name", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"])
def test_every_code_point_is_normalized_alike(tmp_path, name):
    tokenizer = bytes_tokenizer()
    tokenizer.normalizer = NORMALIZERS[name]
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    check_same(file, tokenizer, every_code_point(), decode=False)


def bpe_trainer(**options):
    return trainers.BpeTrainer(show_progress=False, **options)


def trained(model, trainer, pre_tokenizer=None, normalizer=None, decoder=None):
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def byte_fallback_model():
    """Some characters, and bytes for the rest; <0xE2> is missing, so a few fall through to <unk>."""
    vocab = {"<unk>": 0, "a": 1, "b": 2, "ab": 3, " ": 4}
    for byte in range(256):
        if byte != 0xE2:
            vocab[f"<0x{byte:02X}>"] = len(vocab)
    return vocab


def bpe_cases():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield "byte_level", trained(models.BPE(), bpe_trainer(
        vocab_size=3000, initial_alphabet=alphabet, special_tokens=["<s>", "[PAD]", "[MASK]"]),
        byte_level, decoder=decoders.ByteLevel())
    yield "byte_level_no_regex", trained(models.BPE(), bpe_trainer(vocab_size=800, initial_alphabet=alphabet),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False), decoder=decoders.ByteLevel())
    yield "byte_level_holes", trained(models.BPE(), bpe_trainer(vocab_size=300, limit_alphabet=60),
        byte_level, decoder=decoders.ByteLevel())
    yield "byte_level_unk", trained(models.BPE(unk_token="<unk>"), bpe_trainer(
        vocab_size=300, limit_alphabet=60, special_tokens=["<unk>"]), byte_level)
    yield "characters", trained(models.BPE(unk_token="<unk>"), bpe_trainer(
        vocab_size=2000, limit_alphabet=200, special_tokens=["<unk>"]), pre_tokenizers.Whitespace())
    yield "fuse_unk", trained(models.BPE(unk_token="<unk>", fuse_unk=True), bpe_trainer(
        vocab_size=500, limit_alphabet=30, special_tokens=["<unk>"]), normalizer=normalizers.NFKC())
    merges = [("a", "b")]
    yield "byte_fallback", Tokenizer(models.BPE(
        byte_fallback_model(), merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    yield "byte_fallback_split_unk", Tokenizer(models.BPE(
        byte_fallback_model(), merges, unk_token="<unk>", byte_fallback=True))
    vocab = {c: i for i, c in enumerate(sorted(alphabet))} | {"ab": 256, "the": 257, "Ġcat": 258, "xx": 259}
    ignoring = Tokenizer(models.BPE(vocab, [("a", "b"), ("x", "x")], ignore_merges=True))
    ignoring.pre_tokenizer, ignoring.decoder = byte_level, decoders.ByteLevel()
    yield "ignore_merges", ignoring


BPE_CASES = dict(bpe_cases())


@pytest.mark.parametrize("name", BPE_CASES)
def test_bpe_of_the_package(tmp_path, name):
    tokenizer = BPE_CASES[name]
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    check_same(file, tokenizer)


def test_merges_as_strings(tmp_path):
    """Files of older releases have "left right"."""
    file = tmp_path / "tokenizer.json"
    document = json.loads(BPE_CASES["byte_level"].to_str())
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    del document["model"]["type"]
    file.write_text(json.dumps(document))
    check_same(file, Tokenizer.from_file(str(file)))


ADDED = [
    {},
    {"lstrip": True},
    {"rstrip": True},
    {"lstrip": True, "rstrip": True},
    {"single_word": True},
    {"single_word": True, "lstrip": True, "rstrip": True},
    {"normalized": True},
    {"normalized": True, "single_word": True, "lstrip": True},
]


@pytest.mark.parametrize("options", ADDED, ids=lambda o: "_".join(o) or "plain")
@pytest.mark.parametrize("special", [True, False])
def test_added_tokens(tmp_path, options, special):
    tokenizer = Tokenizer.from_str(BPE_CASES["byte_level"].to_str())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
    contents = ["[MASK]", "[M", "Ä", "cat", "  ", "don't", "語", "[MASK][MASK]", "ca"]
    add([tokenizers.AddedToken(content, **{"normalized": False} | options) for content in contents])
    texts = TEXTS + ["".join(parts) for parts in itertools.product(
        ["", "x", " ", "\u3000 "], contents + ["ä", "CAT"], ["", "x", "  ", "\n "], ["", "[MASK]", "cat"])]
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    check_same(file, Tokenizer.from_file(str(file)), texts)


def test_template(tmp_path):
    tokenizer = Tokenizer.from_str(BPE_CASES["byte_level"].to_str())
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<s> $A [MASK] <s>", pair="<s> $A $B", special_tokens=[
                ("<s>", tokenizer.token_to_id("<s>")), ("[MASK]", tokenizer.token_to_id("[MASK]"))]),
    ])
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    check_same(file, tokenizer)


# ---- UTF-8 ----------------------------------------------------------------------------------

def test_broken_utf8_is_replaced_as_python_does(tmp_path):
    file = tmp_path / "tokenizer.json"
    fovea("train", "--type", "byte", "--out", file)
    interesting = [b"\x00", b"a", b"\x7f", b"\x80", b"\x8f", b"\x90", b"\x9f", b"\xa0", b"\xbf", b"\xc0", b"\xc1",
                   b"\xc2", b"\xdf", b"\xe0", b"\xe1", b"\xec", b"\xed", b"\xee", b"\xef", b"\xf0", b"\xf1", b"\xf3",
                   b"\xf4", b"\xf5", b"\xff"]
    rows = [b"".join(row) for n in (1, 2, 3) for row in itertools.product(interesting, repeat=n)]
    generator = random.Random(3)
    rows += [b"".join(generator.choices(interesting, k=12)) for _ in range(5000)]
    texts = our_texts(file, [list(row) for row in rows])
    for row, text in zip(rows, texts, strict=True):
        assert text == row.decode("utf-8", errors="replace"), row


def test_first_broken_byte_is_where_python_says(tmp_path):
    file = tmp_path / "tokenizer.json"
    fovea("train", "--type", "word", "--input", write_lines(tmp_path / "corpus.txt", ["a b"]), "--out", file)
    for row in [b"\xff", b"ab\x80", "é".encode() + b"\xe2\x82", b"ok \xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xc0\xaf",
                b"12345678\xf8", "語".encode() * 5 + b"\xe8\xaa"]:
        with pytest.raises(UnicodeDecodeError) as error:
            row.decode()
        done = subprocess.run([PROGRAM, "tokenizer", "encode", "--tokenizer", str(file)], input=row + b"\n",
                              capture_output=True, check=False)
        assert done.returncode == 2
        assert f"byte {error.value.start}:" in done.stderr.decode(), row
