//! What limits cost: a core module on the same stubs twice, with every limit of a node in force and with none.
//!
//! *On* is a node's store (memory and table limiter, copy fuel, epoch callback), code with epoch checks, a place among
//! the node's executions, a bill with its clock, and what is settled at the end. *Off* is code compiled without epoch
//! checks in a bare store of the same kind of pool; nothing could stop it. Both begin an exchange. Components are not
//! measured so: their stores are made by the same function, and they take longer, so the part can only be smaller.

use artifact::Profile;
use edge_node::{
    exchange::Exchange,
    guest::{HasExchange, new_store},
    lane::End,
    load::Code,
    node::Executions,
};
use engine::compiler;
use serde::Serialize;
use wasmtime::{Engine, InstancePre, Module, Store};

use super::{
    guest::{Bench, Guest},
    host::Host,
    measure::{Cycle, Plan, Spent, side_by_side},
    reference::{Core, run, stubs},
};
use crate::{Verdict, statistics::Summary};

/// Percent that limits may cost.
const GOAL_PERCENT: f64 = 15.0;
/// Executions the node of the measurement takes at once.
const EXECUTIONS_MAX: usize = 64;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LimitsCost {
    /// A cycle with all limits, in µs.
    pub on_us: Summary,
    /// A cycle with none, in µs.
    pub off_us: Summary,
}

impl LimitsCost {
    fn percent(&self) -> f64 {
        (self.on_us.median / self.off_us.median - 1.0) * 100.0
    }

    /// Against [`GOAL_PERCENT`].
    pub fn verdict(&self) -> Verdict {
        if self.percent() <= GOAL_PERCENT { Verdict::Met } else { Verdict::NotMet }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let LimitsCost { on_us, off_us } = self;
        format!(
            "on {:.2} µs [{:.2}..{:.2}], off {:.2} µs [{:.2}..{:.2}]: {:+.1} % (goal at most {GOAL_PERCENT:.0} %: {})",
            on_us.median,
            on_us.min,
            on_us.max,
            off_us.median,
            off_us.min,
            off_us.max,
            self.percent(),
            self.verdict().text()
        )
    }
}

/// Measures both in turns.
pub async fn cost(
    plan: &Plan<'_>,
    bench: &Bench,
    host: &Host,
    guest: &Guest,
    wasm: &[u8],
) -> anyhow::Result<LimitsCost> {
    let Code::Module(module) = bench.load(guest)? else {
        anyhow::bail!("limits are measured on core modules");
    };
    let program = stubs(&bench.engine, &module)?.instantiate_pre(&module)?;
    let executions = Executions::new(1, EXECUTIONS_MAX);
    let on = On { engine: bench.engine.clone(), program, host, executions };

    let engine = compiler::unstoppable(bench.target, Profile::Serve, bench.pool)?;
    let module = Module::new(&engine, wasm)?;
    let program = stubs(&engine, &module)?.instantiate_pre(&module)?;
    let off = Off { engine, program, host };

    let (on, off) = side_by_side(plan, &on, &off).await?;
    Ok(LimitsCost { on_us: on.cycle_us, off_us: off.cycle_us })
}

struct On<'a> {
    engine: Engine,
    program: InstancePre<Core<Exchange>>,
    host: &'a Host,
    executions: Executions,
}

struct Off<'a> {
    engine: Engine,
    program: InstancePre<Core<Exchange>>,
    host: &'a Host,
}

impl HasExchange for Core<Exchange> {
    fn exchange(&mut self) -> &mut Exchange {
        &mut self.of
    }
}

impl Cycle for On<'_> {
    async fn cycle(&self) -> anyhow::Result<Spent> {
        let exchange = self.host.exchange();
        let (bill, deployment) = (exchange.bill.clone(), exchange.deployment.clone());
        let permit = self.executions.admit(0, &deployment.id, 1);
        anyhow::ensure!(permit.is_ok(), "the node took no execution");
        let slice = bill.slice();
        let mut store = new_store(&self.engine, Core::new(exchange));
        let instance = self.program.instantiate_async(&mut store).await?;
        run(&mut store, instance).await?;
        drop(store);
        drop(slice);
        bill.give_back_memory();
        deployment.standing.ended(bill.cpu_ns(), End::ByItself);
        Ok(Spent::default())
    }
}

impl Cycle for Off<'_> {
    async fn cycle(&self) -> anyhow::Result<Spent> {
        let mut store = Store::new(&self.engine, Core::new(self.host.exchange()));
        let instance = self.program.instantiate_async(&mut store).await?;
        run(&mut store, instance).await?;
        Ok(Spent::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(on: f64, off: f64) -> LimitsCost {
        let of = |median| Summary { median, min: median, max: median };
        LimitsCost { on_us: of(on), off_us: of(off) }
    }

    #[test]
    fn the_goal_is_a_part_of_the_cycle_without_limits() {
        assert_eq!((cost(11.5, 10.0).verdict(), cost(11.6, 10.0).verdict()), (Verdict::Met, Verdict::NotMet));
        let text = cost(11.0, 10.0).text();
        assert!(text.contains("+10.0 %") && text.contains("met"), "{text}");
    }
}
