//! Fuzzing of configurations: the binary must answer every damaged configuration with a result or with one error
//! message. It must not panic, must not be ended by a signal, and must not need much memory or time.
//!
//! A short run is part of the tests. The long run is
//! `FOVEAL_FUZZ_SECONDS=600 cargo test --release -p foveal --test fuzz -- --ignored --nocapture`; `FOVEAL_FUZZ_FIRST`
//! sets the number of the first case. Each case depends only on its number.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Limit of the addresses of a process in KiB, most of which are reserved and not used.
const ADDRESSES_KIB: u64 = 8 << 20;
/// Longest time of a command. A printed configuration takes some milliseconds.
const LONGEST: Duration = Duration::from_secs(20);
/// Values that replace the value of a key, separated by bars.
const VALUES: &str = "0|1|-1|2|4|16|0.5|0.1|0.001|false|255|65536|4294967295|4294967296|9223372036854775807|-9223372036854775808|\
    9223372036854775808|1e308|-1e308|1e400|1e-320|5e-324|nan|inf|-inf|0.0|-0.0|0x7fffffff|true|\"\"|\"auto\"|\"../..\"|\
    \"\\u0000\"|\"\\u001b[31m\\n\"|[]|[[]]|[0, 0]|[nan, inf]|[9223372036854775807, 1]|[1e308, 1e308, 1e308]|{}|{ a = 1 }|\
    1979-05-27|\"\"\"\nlong\n\"\"\"";
/// Text that is inserted at random places, separated by spaces.
const PIECES: &str = "[ ] { } = \" ''' \n \r \t # [[train]] [model.head] \u{feff} \u{202e}é a.b.c=1";

/// SplitMix64 (Steele et al., 2014), so that every case depends only on its number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn part<'a>(&mut self, text: &'a str, separator: char) -> &'a str {
        self.one(&text.split(separator).collect::<Vec<_>>())
    }
}

/// A changed copy of a configuration.
fn mutate(seeds: &[String], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<String> = seeds[random.below(seeds.len())].lines().map(str::to_owned).collect();
    for _ in 0..1 + random.below(2) {
        change(&mut lines, seeds, random);
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    let mut bytes = lines.join("\n").into_bytes();
    match random.below(12) {
        0 => bytes.truncate(random.below(bytes.len())),
        1..3 if !bytes.is_empty() => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    bytes
}

/// Changes one of the lines, most often the value of a key.
fn change(lines: &mut Vec<String>, seeds: &[String], random: &mut Random) {
    let at = random.below(lines.len());
    match random.below(12) {
        0..5 => {
            let keys: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].contains(" = ")).collect();
            if !keys.is_empty() {
                let line = &mut lines[random.one(&keys)];
                let key = line.split(" = ").next().unwrap_or_default().to_owned();
                *line = format!("{key} = {}", random.part(VALUES, '|'));
            }
        }
        5 => drop(lines.remove(at)),
        6 => lines.insert(at, lines[random.below(lines.len())].clone()),
        // Takes a line of another configuration.
        7 => {
            let other = &seeds[random.below(seeds.len())];
            lines.insert(at, random.part(other, '\n').to_owned());
        }
        8 => {
            let depth = random.one(&[1, 10, 100, 1_000, 100_000]);
            let (open, close) = random.one(&[("[", "]"), ("{ a = ", " }")]);
            lines[at] = format!("name = {}1{}", open.repeat(depth), close.repeat(depth));
        }
        9 => lines[at] = format!("name = \"{}\"", "x".repeat(random.one(&[300, 5_000, 1_000_000]))),
        10 => {
            let places: Vec<usize> = (0..=lines[at].len()).filter(|i| lines[at].is_char_boundary(*i)).collect();
            lines[at].insert_str(random.one(&places), random.part(PIECES, ' '));
        }
        _ => lines[at] = lines[at].replace(" = ", random.one(&[" == ", ".a = ", " = [", " = -"])),
    }
}

/// The recipes, and all keys with their defaults.
fn seeds() -> Vec<String> {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut paths: Vec<_> = std::fs::read_dir(configs).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    let mut seeds: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let defaults = Command::new(env!("CARGO_BIN_EXE_foveal")).args(["config", "--defaults"]).output().unwrap();
    let defaults = String::from_utf8(defaults.stdout).unwrap();
    // With a generated data set, a command gets as far as the network.
    seeds.push(defaults.replace("source = \"coco\"", "source = \"shapes\""));
    seeds.push(defaults);
    seeds
}

/// Runs a command in a folder. Returns whether it succeeded, or what is wrong.
fn run(folder: &Path, arguments: &[&str]) -> Result<bool, String> {
    let messages = folder.join("messages.txt");
    // The shell limits the memory of the process that it becomes.
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {ADDRESSES_KIB}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_foveal")])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&messages).unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(format!("it takes longer than {} s", LONGEST.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let text = String::from_utf8_lossy(&std::fs::read(&messages).unwrap()).into_owned();
    let errors = text.lines().filter(|line| line.starts_with("error:")).count();
    let shown: String = text.chars().take(2000).collect();
    match status.code() {
        Some(0) if errors == 0 => Ok(true),
        Some(1) if errors == 1 && !text.contains("internal error") && text.len() < 20_000 => Ok(false),
        Some(code) => Err(format!("exit code {code}, {} bytes of messages: {shown}", text.len())),
        None => Err(format!("ended by a signal: {status}: {shown}")),
    }
}

/// Runs cases from number `first` on while `more(number of cases so far)` is true. Returns the number of cases and that
/// of commands that succeeded.
fn cases(first: u64, mut more: impl FnMut(u64) -> bool) -> (u64, u64) {
    let (seeds, folder) = (seeds(), tempfile::tempdir().unwrap());
    let (mut count, mut succeeded) = (0, 0);
    while more(count) {
        let case = first + count;
        let bytes = mutate(&seeds, &mut Random(case.wrapping_mul(0xd134_2543_de82_ef95)));
        std::fs::write(folder.path().join("case.toml"), &bytes).unwrap();
        for arguments in [&["config", "case.toml"][..], &["summary", "case.toml", "--size", "64x64"]] {
            match run(folder.path(), arguments) {
                Ok(success) => succeeded += u64::from(success),
                Err(reason) => {
                    let kept = std::env::temp_dir().join(format!("foveal-fuzz-{case}.toml"));
                    std::fs::write(&kept, &bytes).unwrap();
                    panic!("case {case}, {arguments:?}: {reason}; the file is {}", kept.display());
                }
            }
        }
        count += 1;
    }
    (count, succeeded)
}

#[test]
fn some_damaged_configurations() {
    let (count, succeeded) = cases(0, |count| count < 80);
    // The mutations must neither damage all files beyond recognition nor leave all usable.
    assert!(
        succeeded > count / 20 && succeeded < 2 * count * 9 / 10,
        "{succeeded} of {} commands succeeded",
        2 * count
    );
}

#[test]
#[ignore = "takes FOVEAL_FUZZ_SECONDS"]
fn many_damaged_configurations() {
    let number = |key: &str, default: u64| std::env::var(key).map_or(default, |v| v.parse().expect("a number"));
    let (seconds, first) = (number("FOVEAL_FUZZ_SECONDS", 20), number("FOVEAL_FUZZ_FIRST", 1_000_000));
    println!("configurations from case {first} on");
    let started = Instant::now();
    let (count, succeeded) = cases(first, |_| started.elapsed().as_secs() < seconds);
    println!("{count} configurations in {seconds} s; {succeeded} of {} commands succeeded", 2 * count);
}
