//! Our own garbage: valid inputs, changed by choices, thrown at whatever reads what others wrote.
//!
//! For tests alone, and a leaf: it knows nothing of what it is thrown at. The choices follow from
//! a number, are kept from earlier runs, or come from libFuzzer in a build that counts coverage.
//! Invariants: an input follows from the seed, the target's name and its own number, or from its
//! choices, so that a failure is repeated by these; and a target that panics, hangs or takes more
//! of the heap than it may is told with the input.

mod corpus;
mod cover;
mod draws;
mod guided;
mod input;
mod options;
mod watch;

use std::panic::{self, AssertUnwindSafe};

pub use draws::Draws;
pub use input::Input;

use guided::Part;
use options::Options;
use watch::Watch;

/// What is to bear anything.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Names it in failures, and draws its inputs apart from those of others.
    pub name: &'a str,
    /// The command that repeats a failure, behind the variables that choose the input.
    pub command: &'a str,
    /// How many inputs an ordinary run throws; `FUZZ_INPUTS` says otherwise.
    pub inputs: u64,
    /// How much of the heap an input may take: so many bytes, and so many times its own weight.
    pub heap_bytes_max: (usize, usize),
}

impl Target<'_> {
    /// Throws inputs at `read`: first those whose choices were kept, then those of the corpus, each
    /// with a name, then drawn ones. True if there were as many as in an ordinary run: then what
    /// they led to may be counted.
    ///
    /// # Panics
    /// On the first input that `read` does not bear, after telling which one it was.
    pub fn throw<I: Input>(
        &self,
        corpus: impl IntoIterator<Item = (String, I)>,
        mut draw: impl FnMut(&mut Draws) -> I,
        mut read: impl FnMut(&I),
    ) -> bool {
        match Part::of(self.name) {
            Part::Throws => return self.throw_all(corpus, draw, read),
            Part::Follows => {
                let watch = Watch::start(self.name);
                guided::run(|choices| self.choose(choices, &watch, &mut draw, &mut read));
            }
            Part::Leads(seconds) => guided::lead(self.name, seconds),
            Part::StandsBy => {}
        }
        false
    }

    fn throw_all<I: Input>(
        &self,
        corpus: impl IntoIterator<Item = (String, I)>,
        mut draw: impl FnMut(&mut Draws) -> I,
        mut read: impl FnMut(&I),
    ) -> bool {
        let options = Options::read(self.inputs);
        let watch = Watch::start(self.name);
        if let Some(choices) = &options.choices {
            self.choose(choices, &watch, &mut draw, &mut read);
            return false;
        }
        for choices in corpus::kept(self.name) {
            self.choose(&choices, &watch, &mut draw, &mut read);
        }
        for (name, input) in corpus {
            watch.tell(&format!("{name} of the corpus"));
            self.bear(&name, &input, &mut read);
        }
        for number in options.first..options.first.saturating_add(options.inputs) {
            let rerun = format!(
                "FUZZ_SEED={} FUZZ_FIRST={number} FUZZ_INPUTS=1 {}",
                options.seed, self.command
            );
            watch.tell(&rerun);
            let input = draw(&mut Draws::new(options.seed, self.name, number));
            self.bear(&rerun, &input, &mut read);
        }
        println!("{}: {} inputs from {}", self.name, options.inputs, options.first);
        options.inputs >= self.inputs
    }

    /// Throws the input that follows from these choices.
    fn choose<I: Input>(
        &self,
        choices: &[u8],
        watch: &Watch,
        draw: &mut impl FnMut(&mut Draws) -> I,
        read: &mut impl FnMut(&I),
    ) {
        let rerun = format!("FUZZ_CHOICES={} {}", input::digits(choices), self.command);
        watch.tell(&rerun);
        let input = draw(&mut Draws::given(choices, self.name));
        self.bear(&rerun, &input, read);
    }

    fn bear<I: Input>(&self, which: &str, input: &I, read: &mut impl FnMut(&I)) {
        let mut heap_bytes = 0;
        let borne = panic::catch_unwind(AssertUnwindSafe(|| {
            heap_bytes = allocation_counter::measure(|| read(input)).bytes_max;
        }));
        let told = || format!("{}\n{which}\n{}", self.name, input.show());
        if let Err(panic) = borne {
            eprintln!("\nan input that was not borne by {}", told());
            panic::resume_unwind(panic);
        }
        let (flat, times) = self.heap_bytes_max;
        let most = flat + times * input.weight_bytes();
        assert!(
            heap_bytes <= most as u64,
            "{heap_bytes} bytes of the heap, {most} are allowed, for an input of {}",
            told()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'_> = Target {
        name: "own",
        command: "cargo test -p fuzz",
        inputs: 1_000,
        heap_bytes_max: (4_096, 2),
    };

    /// What a target says that does not bear its inputs; nothing if it does.
    fn told(read: impl FnMut(&Vec<u8>)) -> Option<String> {
        let samples = [vec![7; 64], vec![9; 8]];
        let corpus = [("empty".to_owned(), Vec::new())];
        let thrown = || TARGET.throw(corpus, |draws| draws.garbled(&samples, &[]), read);
        let panic = panic::catch_unwind(AssertUnwindSafe(thrown)).map(drop).err()?;
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
    }

    #[test]
    fn a_target_that_bears_everything_sees_all_of_it() {
        let mut seen = Vec::new();
        assert_eq!(told(|input| allocation_counter::opt_out(|| seen.push(input.clone()))), None);
        assert_eq!(seen.len(), 1 + 1_000);
        assert!(seen[0].is_empty(), "the corpus comes first");
    }

    #[test]
    fn a_panic_and_an_allocation_by_what_an_input_announces_fail_the_target() {
        let panics = told(|input| assert!(!input.contains(&0xff), "a byte of ones"));
        assert_eq!(panics.as_deref(), Some("a byte of ones"));
        let announced = |input: &Vec<u8>| {
            let length = input.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes));
            drop(Vec::<u8>::with_capacity(length.into()));
        };
        let told = told(announced).expect("some announce more than they bring");
        assert!(told.contains("bytes of the heap") && told.contains("FUZZ_FIRST="), "{told}");
    }
}
