//! How long a side looks for the next frame before it sleeps: as long as that pays.
//!
//! Most answers that no host is asked for come sooner than a sleeper is woken. What a host is asked takes far longer, and on a busy
//! machine the other side does not even run meanwhile: then looking only takes the processor from it, and is left alone for a while.

use std::time::{Duration, Instant};

/// About what waking a sleeper takes.
const LONGEST: Duration = Duration::from_micros(40);

/// How many waits go straight to sleep after one that looked in vain.
const REST: u8 = 16;

/// One side's readiness to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eager {
    rest: u8,
}

impl Eager {
    /// Asks `found` again and again, for a moment at most; says whether it was answered with yes.
    pub fn look<E>(&mut self, mut found: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
        if found()? {
            return Ok(true);
        }
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(false);
        }
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            if found()? {
                return Ok(true);
            }
        }
        self.rest = REST;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_in_vain_is_not_repeated_for_a_while() {
        let mut eager = Eager::default();
        let nothing = |asked: &mut u32, eager: &mut Eager| {
            *asked = 0;
            let found = eager.look(|| {
                *asked += 1;
                Ok::<_, ()>(false)
            });
            assert_eq!(found, Ok(false));
        };
        let mut asked = 0;
        nothing(&mut asked, &mut eager);
        for _ in 0..REST {
            nothing(&mut asked, &mut eager);
            assert_eq!(asked, 1);
        }
        assert_eq!(eager.rest, 0);
        assert_eq!(eager.look(|| Ok::<_, ()>(true)), Ok(true));
        assert_eq!(eager.look(|| Err("closed")), Err("closed"));
    }
}
