import pytest
from hypothesis import given
from hypothesis import strategies as st

from isentrope.lab.tokenizer import ALPHABET, CharacterTokenizer


@given(st.text(alphabet=ALPHABET))
def test_decoding_inverts_encoding(text):
    tokenizer = CharacterTokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode([tokenizer.pad_id, *ids, tokenizer.eos_id]) == text
    assert "".join(tokenizer.tokens(ids)) == text
    assert all(index not in (tokenizer.pad_id, tokenizer.eos_id) for index in ids)


def test_every_id_is_one_token():
    tokenizer = CharacterTokenizer("xyz")
    assert tokenizer.tokens(range(len(tokenizer))) == ["<pad>", "<eos>", "x", "y", "z"]


def test_unknown_character_and_unknown_id_are_named():
    tokenizer = CharacterTokenizer("12")
    with pytest.raises(ValueError, match="'X' at position 2"):
        tokenizer.encode("12X1")
    with pytest.raises(ValueError, match="id -1 at position 1"):
        tokenizer.decode([2, -1])
    with pytest.raises(ValueError, match="id 4 at position 0"):
        tokenizer.tokens([4])


@pytest.mark.parametrize("alphabet", ["", "abca"])
def test_alphabet_must_be_a_set(alphabet):
    with pytest.raises(ValueError, match="alphabet"):
        CharacterTokenizer(alphabet)


def test_saving_and_loading(tmp_path):
    CharacterTokenizer("é= ").save(tmp_path)
    assert CharacterTokenizer.load(tmp_path) == CharacterTokenizer("é= ")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ValueError, match="not a character tokenizer"):
        CharacterTokenizer.load(tmp_path)
