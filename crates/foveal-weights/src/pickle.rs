//! A scan of a pickle that builds no objects. It finds how much memory reading the pickle would take and which Python
//! functions and classes it names.
//!
//! Burn's pickle reader copies an object each time the pickle refers to it, and takes about a hundred bytes for an
//! object whose opcode has one byte, so a small hostile file could use any amount of memory. The opcodes are those of
//! CPython's `Lib/pickletools.py`.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, Read};
use std::rc::Rc;

/// Bytes counted for an object in addition to its characters or bytes; more than the reader takes.
const OBJECT: u64 = 128;
/// Limit of the bytes of all objects of a pickle, copies included: a hundred times what the pickle of a large network
/// with its optimizer state takes.
const LIMIT: u64 = 512 << 20;
/// Limit of the bytes of a line of the text opcodes (names, numbers).
const LINE: u64 = 16 << 20;
/// Limit of the bytes of a name; longer strings cannot be names of Python modules or functions.
const NAME: u64 = 200;

/// Result of the scan of a pickle.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The Python functions and classes that the pickle names, as `module.name`.
    pub globals: BTreeSet<String>,
    /// Whether reading the pickle would take more than [`LIMIT`] bytes. The scan stops there.
    pub too_large: bool,
}

/// An object on the stack or in the memo of the pickle machine.
#[derive(Clone)]
struct Slot {
    cost: u64,
    text: Option<Rc<str>>,
}

/// State of the pickle machine.
struct Walk {
    stack: Vec<Slot>,
    marks: Vec<usize>,
    memo: HashMap<u32, Slot>,
    spent: u64,
    found: Survey,
}

/// Scans one pickle; `from` is then positioned behind its end.
///
/// # Errors
/// A description of the fault if the pickle is damaged or uses an unknown opcode.
pub(crate) fn survey(from: &mut impl BufRead) -> Result<Survey, String> {
    let mut walk =
        Walk { stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), spent: 0, found: Survey::default() };
    while walk.step(from)? {
        if walk.spent > LIMIT {
            walk.found.too_large = true;
            break;
        }
    }
    Ok(walk.found)
}

impl Walk {
    /// Executes one opcode; returns false at the end of the pickle.
    fn step(&mut self, from: &mut impl BufRead) -> Result<bool, String> {
        let [op] = number(from)?;
        match op {
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.above_mark()?;
            }
            b'2' => {
                let top = self.top()?.clone();
                self.push(top);
            }
            // Constants and numbers.
            b'N' | 0x88 | 0x89 | b')' | b']' | b'}' | 0x8f => self.object(0),
            b'K' => self.skip(from, 1)?,
            b'M' => self.skip(from, 2)?,
            b'J' => self.skip(from, 4)?,
            b'G' => self.skip(from, 8)?,
            b'I' | b'L' | b'F' | b'V' | b'P' => {
                let text = line(from)?;
                self.object(text.len() as u64);
            }
            // Strings, bytes and long integers, preceded by their lengths.
            b'U' | 0x8c => {
                let length = u64::from(number::<1>(from)?[0]);
                self.text(from, length)?;
            }
            b'T' | b'X' => {
                let length = u64::from(u32::from_le_bytes(number(from)?));
                self.text(from, length)?;
            }
            0x8d => {
                let length = u64::from_le_bytes(number(from)?);
                self.text(from, length)?;
            }
            b'C' | 0x8a => {
                let length = u64::from(number::<1>(from)?[0]);
                self.skip(from, length)?;
            }
            b'B' | 0x8b => {
                let length = u64::from(u32::from_le_bytes(number(from)?));
                self.skip(from, length)?;
            }
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(number(from)?);
                self.skip(from, length)?;
            }
            // Containers.
            b't' | b'l' | b'd' | 0x91 => {
                let cost = self.above_mark()?;
                self.object(0);
                self.grow(cost)?;
            }
            0x85..=0x87 => self.combine(usize::from(op - 0x84))?,
            b'a' => {
                let item = self.pop()?.cost;
                self.grow(item)?;
            }
            b's' => {
                let (value, key) = (self.pop()?.cost, self.pop()?.cost);
                self.grow(key.saturating_add(value))?;
            }
            b'e' | b'u' | 0x90 => {
                let items = self.above_mark()?;
                self.grow(items)?;
            }
            b'g' | b'p' | b'h' | b'j' | b'q' | b'r' | 0x94 => self.memo(op, from)?,
            // Python functions, classes and objects.
            b'c' => {
                let (module, name) = (line(from)?, line(from)?);
                self.object((module.len() + name.len()) as u64);
                self.global(&module, &name);
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.object(name.cost.saturating_add(module.cost));
                self.global(module.text.as_deref().unwrap_or("?"), name.text.as_deref().unwrap_or("?"));
            }
            b'Q' => self.combine(1)?,
            b'R' | 0x81 => self.combine(2)?,
            0x92 => self.combine(3)?,
            b'b' => {
                self.combine(2)?;
                // The reader copies the object to the memo again.
                self.spent = self.spent.saturating_add(self.top()?.cost);
            }
            // Protocol and frame.
            0x80 => {
                number::<1>(from)?;
            }
            0x95 => {
                number::<8>(from)?;
            }
            other => return Err(format!("a pickle opcode {other:#04x}, which PyTorch files do not use")),
        }
        Ok(true)
    }

    /// Executes an opcode that reads or writes the memo, the numbered list of objects that a pickle refers back to.
    fn memo(&mut self, op: u8, from: &mut impl BufRead) -> Result<(), String> {
        match op {
            b'g' | b'p' => {
                let text = line(from)?;
                let index = text.trim_end().parse().map_err(|_| "a memo index that is not a number")?;
                if op == b'g' { self.get(index) } else { self.put(index) }
            }
            b'h' | b'q' => {
                let [index] = number(from)?;
                if op == b'h' { self.get(index.into()) } else { self.put(index.into()) }
            }
            b'j' | b'r' => {
                let index = u32::from_le_bytes(number(from)?);
                if op == b'j' { self.get(index) } else { self.put(index) }
            }
            _ => self.put(self.memo.len() as u32),
        }
    }

    fn push(&mut self, slot: Slot) {
        self.spent = self.spent.saturating_add(slot.cost);
        self.stack.push(slot);
    }

    fn object(&mut self, bytes: u64) {
        self.push(Slot { cost: OBJECT.saturating_add(bytes), text: None });
    }

    fn top(&self) -> Result<&Slot, String> {
        let above = self.stack.len() > self.marks.last().copied().unwrap_or_default();
        self.stack
            .last()
            .filter(|_| above)
            .ok_or_else(|| "a damaged pickle (an opcode without its operands)".to_owned())
    }

    fn pop(&mut self) -> Result<Slot, String> {
        let slot = self.top()?.clone();
        self.stack.pop();
        Ok(slot)
    }

    /// Removes all objects above the innermost mark from the stack and returns their total cost.
    fn above_mark(&mut self) -> Result<u64, String> {
        let mark = self.marks.pop().ok_or("a damaged pickle (an opcode without its mark)")?;
        Ok(self.stack.drain(mark..).map(|slot| slot.cost).fold(0, u64::saturating_add))
    }

    /// Replaces the top `count` objects by one object made of them.
    fn combine(&mut self, count: usize) -> Result<(), String> {
        let mut cost = 0u64;
        for _ in 0..count {
            cost = cost.saturating_add(self.pop()?.cost);
        }
        self.object(0);
        self.grow(cost)
    }

    /// Adds the cost of objects that the top object now contains; it was counted when they were pushed.
    fn grow(&mut self, cost: u64) -> Result<(), String> {
        self.top()?;
        if let Some(top) = self.stack.last_mut() {
            top.cost = top.cost.saturating_add(cost);
        }
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<(), String> {
        let slot =
            self.memo.get(&index).ok_or_else(|| format!("a damaged pickle (unknown memo index {index})"))?.clone();
        self.push(slot);
        Ok(())
    }

    fn put(&mut self, index: u32) -> Result<(), String> {
        let slot = self.top()?.clone();
        self.spent = self.spent.saturating_add(slot.cost);
        self.memo.insert(index, slot);
        Ok(())
    }

    fn skip(&mut self, from: &mut impl BufRead, bytes: u64) -> Result<(), String> {
        let skipped = std::io::copy(&mut from.take(bytes), &mut std::io::sink()).map_err(|e| e.to_string())?;
        if skipped < bytes {
            return Err(truncated());
        }
        self.object(bytes);
        Ok(())
    }

    fn text(&mut self, from: &mut impl BufRead, bytes: u64) -> Result<(), String> {
        if bytes > NAME {
            return self.skip(from, bytes);
        }
        let mut text = vec![0; bytes as usize];
        from.read_exact(&mut text).map_err(|_| truncated())?;
        self.push(Slot { cost: OBJECT + bytes, text: Some(String::from_utf8_lossy(&text).into()) });
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) {
        let shown = |text: &str| text.chars().take(NAME as usize).collect::<String>();
        self.found.globals.insert(format!("{}.{}", shown(module), shown(name)));
    }
}

fn truncated() -> String {
    "a pickle that ends too early".to_owned()
}

fn number<const N: usize>(from: &mut impl BufRead) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(|_| truncated())?;
    Ok(bytes)
}

fn line(from: &mut impl BufRead) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(LINE).read_until(b'\n', &mut bytes).map_err(|e| e.to_string())?;
    if bytes.pop() != Some(b'\n') {
        return Err(if bytes.len() as u64 + 1 >= LINE {
            format!("a pickle with a line of more than {LINE} bytes")
        } else {
            truncated()
        });
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Survey, String> {
        survey(&mut &bytes[..])
    }

    fn globals(bytes: &[u8]) -> Vec<String> {
        walk(bytes).unwrap().globals.into_iter().collect()
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        // pickle.dumps(collections.OrderedDict(a=1), 2)
        let dict = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00aq\x02K\x01s.";
        assert_eq!(globals(dict), ["collections.OrderedDict"]);
        // A call of os.system whose result is thrown away, in protocol 0 and 4; in the latter its names come by the
        // memo.
        assert_eq!(globals(b"cposix\nsystem\n(Vx\ntR0}."), ["posix.system"]);
        let four = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x9400h\x00h\x01\x93\x8c\x01x\x85R0}.";
        assert_eq!(globals(four), ["posix.system"]);
    }

    #[test]
    fn bombs_are_costed_before_they_go_off() {
        // Ten million objects of one byte each.
        let mut many = vec![b'N'; 10 << 20];
        many.push(b'.');
        assert!(walk(&many).unwrap().too_large);
        // A name of a million letters, referred to a thousand times.
        let mut long = b"c".to_vec();
        long.extend(std::iter::repeat_n(b'a', 1 << 20));
        long.extend(b"\nb\nq\x00");
        long.extend(b"h\x00".repeat(1000));
        long.push(b'.');
        assert!(walk(&long).unwrap().too_large);
        // A list that doubles.
        let mut doubling = b"]q\x00".to_vec();
        doubling.extend(b"2\x86q\x00h\x00".repeat(40));
        doubling.push(b'.');
        assert!(walk(&doubling).unwrap().too_large);
        assert!(!walk(b"}.").unwrap().too_large);
    }

    #[test]
    fn damage_is_told() {
        for bytes in
            [&b""[..], b"\x80", b"X\xff\xff\xff\xffabc", b"Vabc", b"cabc\n", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert_eq!(walk(bytes).unwrap_err(), "a pickle that ends too early", "{bytes:?}");
        }
        assert!(walk(b"t.").unwrap_err().contains("mark"));
        assert!(walk(b"gabc\n.").unwrap_err().contains("is not a number"));
        assert!(walk(b"h\x07.").unwrap_err().contains("memo index 7"));
        assert!(walk(b"\x82\x01.").unwrap_err().contains("0x82"));
    }
}
