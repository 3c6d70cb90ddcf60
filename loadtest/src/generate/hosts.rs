//! Which host a request is for.

use super::{random::Random, scenario::Hosts};

/// Names and how often each is taken.
pub struct Popularity {
    names: Vec<String>,
    /// The share of all hosts up to and with each.
    up_to: Vec<f64>,
}

impl Popularity {
    pub fn new(hosts: Hosts, authority: &str) -> Popularity {
        let Hosts::Zipf { count, exponent } = hosts else {
            return Popularity { names: vec![authority.to_owned()], up_to: vec![1.0] };
        };
        let weights = (1..=count).map(|rank| f64::from(rank).powf(-exponent));
        let total: f64 = weights.clone().sum();
        let mut sum = 0.0;
        let up_to = weights.map(|weight| {
            sum += weight / total;
            sum
        });
        Popularity {
            names: (0..count).map(|number| format!("h{number}.{authority}")).collect(),
            up_to: up_to.collect(),
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of the host to ask.
    pub fn pick(&self, random: &mut Random) -> usize {
        if self.names.len() == 1 {
            return 0;
        }
        let point = random.unit();
        self.up_to.partition_point(|share| *share <= point).min(self.names.len() - 1)
    }
}
