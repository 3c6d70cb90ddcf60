//! Which host a request is for.

use super::{random::Random, scenario::Hosts};

/// Names and how often each is taken.
pub struct Popularity {
    names: Vec<String>,
    taken: Taken,
}

enum Taken {
    /// The share of all hosts up to and with each.
    ByShare(Vec<f64>),
    /// Each slot has its own.
    InTurns,
}

impl Popularity {
    pub fn new(hosts: &Hosts, authority: &str) -> Popularity {
        match hosts {
            Hosts::One => Popularity { names: vec![authority.to_owned()], taken: Taken::InTurns },
            Hosts::Each { names } => Popularity { names: names.clone(), taken: Taken::InTurns },
            Hosts::Zipf { count, exponent } => zipf(*count, *exponent, authority),
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of the host that slot `slot` is to ask.
    pub fn pick(&self, slot: u64, random: &mut Random) -> usize {
        let Taken::ByShare(up_to) = &self.taken else {
            return (slot % self.names.len() as u64) as usize;
        };
        let point = random.unit();
        up_to.partition_point(|share| *share <= point).min(self.names.len() - 1)
    }
}

fn zipf(count: u32, exponent: f64, authority: &str) -> Popularity {
    let weights = (1..=count).map(|rank| f64::from(rank).powf(-exponent));
    let total: f64 = weights.clone().sum();
    let mut sum = 0.0;
    let up_to = weights.map(|weight| {
        sum += weight / total;
        sum
    });
    let names = (0..count).map(|number| format!("h{number}.{authority}")).collect();
    Popularity { names, taken: Taken::ByShare(up_to.collect()) }
}
