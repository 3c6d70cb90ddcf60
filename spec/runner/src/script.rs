//! The interpreter of a script's directives.
//!
//! A directive passes, fails, or is skipped with a reason: its module needs a feature that is off, or more than a node's
//! pool has. What touches such a module, by name or as the current one, is skipped for the same reason.

use std::collections::HashMap;

use json_from_wast::{Action, Command, Const, WasmFile};
use wasmtime::{Error, Extern, Instance, Linker, Module, Store, Trap, Val};

use crate::{
    clock::{self, Ticks},
    code::{Allocator, Containers},
    plan::{Fate, Report, Script},
    spectest, values,
};

/// Why a directive did not pass.
enum Not {
    Run(String),
    Right(String),
}

type Done<T = ()> = Result<T, Not>;

fn wrong<T>(what: impl Into<String>) -> Done<T> {
    Err(Not::Right(what.into()))
}

/// What a name stands for: an instance, or why there is none.
type Named = Result<Instance, String>;

struct Run<'a> {
    script: &'a Script<'a>,
    containers: &'a mut Containers,
    allocator: Allocator,
    store: Store<Ticks>,
    linker: Linker<Ticks>,
    current: Named,
    instances: HashMap<String, Named>,
    definitions: HashMap<Option<String>, Result<Module, String>>,
    /// Names under which a module that is not there was registered.
    absent: HashMap<String, String>,
}

/// Runs every directive of a script, each whatever the one before came to.
pub fn run(script: &Script<'_>, containers: &mut Containers, allocator: Allocator) -> anyhow::Result<Report> {
    let engine = containers.engine().clone();
    let mut store = clock::store(&engine);
    let mut linker = Linker::new(&engine);
    linker.allow_shadowing(true);
    spectest::define(&mut linker, &mut store)?;
    let mut run = Run {
        script,
        containers,
        allocator,
        store,
        linker,
        current: Err("there is no module before it".into()),
        instances: HashMap::new(),
        definitions: HashMap::new(),
        absent: HashMap::new(),
    };
    let mut report = Report::default();
    for command in &script.wast.commands {
        run.store.data_mut().0 = 0;
        match run.command(command) {
            Ok(()) => report.passed += 1,
            Err(Not::Run(reason)) => *report.skipped.entry(reason).or_default() += 1,
            Err(Not::Right(what)) => report.failed.push((command.line(), what)),
        }
    }
    Ok(report)
}

impl Run<'_> {
    fn command(&mut self, command: &Command<'_>) -> Done {
        match command {
            Command::Module { name, file, .. } => {
                let module = self.module(file);
                self.define(name.as_deref(), module)
            }
            Command::ModuleDefinition { name, file, .. } => {
                let module = self.module(file);
                let kept = module.as_ref().map(Module::clone).map_err(|not| not.for_others());
                self.definitions.insert(name.as_ref().map(|name| name.to_string()), kept);
                module.map(drop)
            }
            Command::ModuleInstance { instance, module, .. } => {
                let known = self.definitions.get(&module.as_ref().map(|name| name.to_string()));
                let module = match known {
                    Some(Ok(module)) => Ok(module.clone()),
                    Some(Err(reason)) => Err(Not::Run(reason.clone())),
                    None => wrong(format!("no module is named {module:?}")),
                };
                self.define(instance.as_deref(), module)
            }
            Command::Register { name, as_, .. } => self.register(name.as_deref(), as_),
            Command::Action { action, .. } => match self.act(action)? {
                Ok(_) => Ok(()),
                Err(error) => wrong(format!("failed: {error:#}")),
            },
            Command::AssertReturn { action, expected, .. } => match self.act(action)? {
                Ok(results) => values::all_match(&results, expected).map_err(Not::Right),
                Err(error) => wrong(format!("trapped: {error:#}")),
            },
            Command::AssertTrap { action, text, .. } | Command::AssertExhaustion { action, text, .. } => {
                match self.act(action)? {
                    Ok(results) => wrong(format!("returned {results:?} instead of trapping with {text:?}")),
                    Err(error) => trapped_with(&error, text),
                }
            }
            Command::AssertUninstantiable { file, text, .. } => {
                let module = self.module(file)?;
                match self.instantiate(&module)? {
                    Ok(_) => wrong(format!("was instantiated instead of trapping with {text:?}")),
                    Err(error) => trapped_with(&error, text),
                }
            }
            Command::AssertUnlinkable { file, text, .. } => {
                let module = self.module(file)?;
                match self.instantiate(&module)? {
                    Ok(_) => wrong(format!("was linked; expected {text:?}")),
                    Err(error) if error.is::<Trap>() => {
                        wrong(format!("trapped instead of {text:?}: {error:#}"))
                    }
                    Err(error) => unlinked(&error, text),
                }
            }
            Command::AssertInvalid { file, text, .. } | Command::AssertMalformed { file, text, .. } => {
                self.refused(file, text)
            }
            Command::AssertMalformedCustom { .. } | Command::AssertInvalidCustom { .. } => {
                Err(Not::Run("custom sections are not looked into".into()))
            }
            Command::AssertException { .. } => Err(Not::Run("needs exceptions".into())),
            Command::AssertSuspension { .. } => Err(Not::Run("needs stack-switching".into())),
            Command::Thread { .. } | Command::Wait { .. } => Err(Not::Run("needs threads".into())),
        }
    }

    /// The compiler and intake both refused it.
    fn refused(&self, file: &WasmFile<'_>, text: &str) -> Done {
        match self.fate(file)? {
            Fate::Compiled { .. } => wrong(format!("was compiled; expected {text:?}")),
            Fate::Refused { by_intake: false, .. } => wrong(format!("intake admits it; expected {text:?}")),
            Fate::Refused { .. } => Ok(()),
            // Valid with it, so that refusing it says nothing of what the directive is about.
            Fate::Off(features) => Err(Not::Run(format!("would be valid with {}", features.join(", ")))),
            Fate::Text => Err(Not::Run("text format: uploads are binary".into())),
        }
    }

    fn fate(&self, file: &WasmFile<'_>) -> Done<&Fate> {
        let name = file.binary_filename.as_ref().unwrap_or(&file.filename);
        let fate = self.script.modules.get(name.as_ref());
        fate.ok_or_else(|| Not::Right(format!("the plan says nothing of {name}")))
    }

    fn module(&mut self, file: &WasmFile<'_>) -> Done<Module> {
        let wasm = match self.fate(file)? {
            Fate::Compiled { beyond_pool: Some(what), .. }
                if matches!(self.allocator, Allocator::Pool(_)) =>
            {
                return Err(Not::Run(format!("beyond the pool: {what}")));
            }
            Fate::Compiled { wasm, .. } => *wasm,
            Fate::Off(features) => return Err(Not::Run(format!("needs {}", features.join(", ")))),
            Fate::Refused { reason, .. } => return wrong(format!("the compiler refused it: {reason}")),
            Fate::Text => return wrong("no assembler makes a module of it"),
        };
        self.containers.load(wasm).map_err(|error| Not::Right(format!("was not loaded: {error:#}")))
    }

    /// Makes an instance the current one, and gives it a name.
    fn define(&mut self, name: Option<&str>, module: Done<Module>) -> Done {
        let made = module.and_then(|module| match self.instantiate(&module)? {
            Ok(instance) => Ok(instance),
            Err(error) => wrong(format!("was not instantiated: {error:#}")),
        });
        self.current = made.as_ref().map(|instance| *instance).map_err(Not::for_others);
        if let Some(name) = name {
            self.instances.insert(name.to_owned(), self.current.clone());
        }
        made.map(drop)
    }

    fn instantiate(&mut self, module: &Module) -> Done<Result<Instance, Error>> {
        for import in module.imports() {
            if let Some(reason) = self.absent.get(import.module()) {
                return Err(Not::Run(reason.clone()));
            }
        }
        Ok(self.linker.instantiate(&mut self.store, module))
    }

    fn named(&self, name: Option<&str>) -> Done<Instance> {
        let named = match name {
            None => Some(&self.current),
            Some(name) => self.instances.get(name),
        };
        match named {
            Some(Ok(instance)) => Ok(*instance),
            Some(Err(reason)) => Err(Not::Run(reason.clone())),
            None => wrong(format!("no instance is named {name:?}")),
        }
    }

    fn register(&mut self, name: Option<&str>, as_: &str) -> Done {
        match self.named(name) {
            Ok(instance) => {
                self.absent.remove(as_);
                let linked = self.linker.instance(&mut self.store, as_, instance).map(drop);
                linked.map_err(|error| Not::Right(format!("was not registered: {error:#}")))
            }
            Err(not) => {
                self.absent.insert(as_.to_owned(), not.for_others());
                Err(not)
            }
        }
    }

    /// A call or a global's value; the inner error is the guest's.
    fn act(&mut self, action: &Action<'_>) -> Done<Result<Vec<Val>, Error>> {
        match action {
            Action::Invoke { module, field, args } => {
                let Extern::Func(function) = self.export(module.as_deref(), field)? else {
                    return wrong(format!("{field:?} is no function"));
                };
                self.call(function, args)
            }
            Action::Get { module, field } => {
                let Extern::Global(global) = self.export(module.as_deref(), field)? else {
                    return wrong(format!("{field:?} is no global"));
                };
                Ok(Ok(vec![global.get(&mut self.store)]))
            }
        }
    }

    fn export(&mut self, module: Option<&str>, field: &str) -> Done<Extern> {
        let instance = self.named(module)?;
        let export = instance.get_export(&mut self.store, field);
        export.ok_or_else(|| Not::Right(format!("nothing is exported as {field:?}")))
    }

    fn call(&mut self, function: wasmtime::Func, arguments: &[Const<'_>]) -> Done<Result<Vec<Val>, Error>> {
        let arguments = arguments.iter().map(values::argument).collect::<Result<Vec<_>, _>>();
        let arguments = arguments.map_err(|what| Not::Run(format!("needs {what}")))?;
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        Ok(function.call(&mut self.store, &arguments, &mut results).map(|()| results))
    }
}

impl Not {
    /// What to say of directives that need what this one was to make.
    fn for_others(&self) -> String {
        match self {
            Not::Run(reason) => reason.clone(),
            Not::Right(_) => "the module it acts on failed".into(),
        }
    }
}

/// The suite's words for what cannot be linked are the start of wasmtime's.
fn unlinked(error: &Error, expected: &str) -> Done {
    let actual = format!("{error:#}");
    if actual.contains(expected) { Ok(()) } else { wrong(format!("{actual}; expected {expected:?}")) }
}

/// The suite's words for a trap, in wasmtime's; two of them say more than wasmtime knows.
fn trapped_with(error: &Error, expected: &str) -> Done {
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return wrong(format!("no trap but: {error:#}"));
    };
    let actual = trap.to_string();
    let fits = actual.contains(expected)
        || (expected.starts_with("uninitialized element") && actual.contains("uninitialized element"))
        || (expected.contains("null function") && actual.contains("uninitialized element"));
    if fits { Ok(()) } else { wrong(format!("{actual}; expected {expected:?}")) }
}
