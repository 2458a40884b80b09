//! The performance manager: which counters there are, of whom they are kept, and what they stood at.
//!
//! The values are made up and hold together: a machine works as the summaries of the inventory say, the host as its machines do together,
//! and one interval is like the other. Samples begin with the start of whoever they are of, every 20 seconds over the last hour, every
//! five minutes over the last day. Specification: vSphere Web Services API, `PerformanceManager`.

mod counters;

use time::{Duration, OffsetDateTime};

use super::{RESOURCE_POOL, host};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore;
use crate::sim::encode::timestamp;
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::{Power, Vm};
use crate::sim::world::World;

use counters::{COUNTERS, Counter, Gauge, Of, Parts, counter_of};

/// Seconds between the newest samples, and how many are kept.
const LIVE: (i64, i64) = (20, 180);
/// Seconds between those of the day before, and how many are kept.
const DAY: (i64, i64) = (300, 288);
/// The most series in one answer: some counters of a thousand machines.
const MOST: usize = 100_000;

pub fn property(property: &str) -> Option<Value> {
    match property {
        "perfCounter" => Some(COUNTERS.iter().map(Counter::render).collect::<Vec<_>>().into()),
        "historicalInterval" => {
            let day = Data::new("PerfInterval").with("key", 1).with("samplingPeriod", 300).with("name", "PastDay");
            Some(vec![day.with("length", 86_400).with("enabled", true)].into())
        }
        "description" => {
            let each = |key: &'static str| {
                Data::new("ElementDescription").with("label", key).with("summary", key).with("key", key)
            };
            let kinds = ["average", "maximum", "minimum", "latest", "summation", "none"].map(each).to_vec();
            let forms = ["absolute", "delta", "rate"].map(each).to_vec();
            Some(Data::new("PerformanceDescription").with("counterType", kinds).with("statsType", forms).into())
        }
        _ => None,
    }
}

/// Whose counters are asked for.
enum Subject<'a> {
    Host,
    Pool(Vec<&'a Vm>),
    Machine(&'a Vm),
}

fn subject<'a>(world: &'a World, given: &Ref) -> Result<(Ref, Subject<'a>), VimFault> {
    let object = world.find(given).ok_or_else(|| VimFault::not_found(given))?;
    let whose = match object.kind {
        "HostSystem" => Subject::Host,
        "VirtualMachine" => Subject::Machine(world.vm(&object)?),
        // Machines lie in the root pool alone.
        "ResourcePool" if object == RESOURCE_POOL => Subject::Pool(running(world).collect()),
        "ResourcePool" => Subject::Pool(Vec::new()),
        _ => return Err(VimFault::invalid_argument("entity", format!("no counters are kept of {object}"))),
    };
    Ok((object, whose))
}

fn running(world: &World) -> impl Iterator<Item = &Vm> {
    world.vms.values().filter(|vm| vm.power == Power::On)
}

pub fn call(world: &World, call: &Call) -> Answer {
    match call.method {
        "QueryPerfProviderSummary" => {
            let (object, _) = subject(world, call.reference("entity")?)?;
            let summary = Data::new("PerfProviderSummary").with("entity", object).with("currentSupported", true);
            Ok(summary.with("summarySupported", true).with("refreshRate", 20).into())
        }
        "QueryAvailablePerfMetric" => {
            let (_, whose) = subject(world, call.reference("entity")?)?;
            check_interval(call.args.number("intervalId"))?;
            // Nothing is kept of what does not run.
            let ids = match since(world, &whose) {
                Some(_) => kept(&whose).map(|(counter, part)| id(counter, &part)).collect(),
                None => Vec::new(),
            };
            Ok(Reply::Value(ids.into()))
        }
        "QueryPerfCounter" => {
            let wanted = call.args.list("counterId").iter().map(|key| match key {
                Value::Int(key) => counter_of(*key).map(Counter::render),
                _ => None,
            });
            let found: Option<Vec<Data>> = wanted.collect();
            let found = found.ok_or_else(|| VimFault::invalid_argument("counterId", "there is no such counter"))?;
            Ok(Reply::Value(found.into()))
        }
        "QueryPerfCounterByLevel" => match call.args.int("level") {
            Some(1..=4) => Ok(Reply::Value(COUNTERS.iter().map(Counter::render).collect::<Vec<_>>().into())),
            _ => Err(VimFault::invalid_argument("level", "it is 1 to 4")),
        },
        "QueryPerf" => {
            let (mut told, mut series) = (Vec::new(), 0);
            for spec in call.args.datas("querySpec") {
                let (one, count) = query(world, spec)?;
                series += count;
                if series > MOST {
                    return Err(VimFault::invalid_argument("querySpec", "it asks for too much at once"));
                }
                told.push(one);
            }
            Ok(Reply::Value(told.into()))
        }
        "QueryPerfComposite"
        | "CreatePerfInterval"
        | "RemovePerfInterval"
        | "UpdatePerfInterval"
        | "ResetCounterLevelMapping"
        | "UpdateCounterLevelMapping" => {
            Err(VimFault::not_supported(format!("{} needs a vCenter Server", call.method)))
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

fn id(counter: &Counter, part: &str) -> Data {
    Data::new("PerfMetricId").with("counterId", counter.key).with("instance", part.to_owned())
}

fn check_interval(seconds: Option<i64>) -> Result<(i64, i64), VimFault> {
    match seconds.unwrap_or(LIVE.0) {
        0 => Ok(LIVE),
        seconds if seconds == LIVE.0 => Ok(LIVE),
        seconds if seconds == DAY.0 => Ok(DAY),
        _ => Err(VimFault::invalid_argument("intervalId", "samples are kept every 20 and every 300 seconds")),
    }
}

/// Since when somebody has run.
fn since(world: &World, whose: &Subject<'_>) -> Option<OffsetDateTime> {
    match whose {
        Subject::Host | Subject::Pool(_) => Some(world.started),
        Subject::Machine(vm) => vm.powered_on.filter(|_| vm.power == Power::On).map(|on| on.max(world.started)),
    }
}

/// The counters that are kept of somebody, each with the part that it is of; nothing stands for the whole.
fn kept<'a>(whose: &'a Subject<'_>) -> impl Iterator<Item = (&'static Counter, String)> + use<'a> {
    let ours = move |counter: &&Counter| match whose {
        Subject::Host => counter.of != Of::Machine,
        Subject::Machine(_) => counter.of != Of::Host,
        Subject::Pool(_) => counter.of == Of::All,
    };
    COUNTERS.iter().filter(ours).flat_map(move |counter| {
        let whole = counter.has_whole().then(String::new);
        let parts: Vec<String> = match (counter.parts(), whose) {
            (Parts::None, _) | (_, Subject::Pool(_)) => Vec::new(),
            (Parts::Processors, Subject::Host) => (0..host::CORES).map(|at| at.to_string()).collect(),
            (Parts::Processors, Subject::Machine(vm)) => (0..vm.cpus).map(|at| at.to_string()).collect(),
            (Parts::Cards, Subject::Host) => vec![super::network::CARD.to_owned()],
            (Parts::Cards, Subject::Machine(vm)) => {
                vm.nics().filter_map(|nic| nic.int("key")).map(|key| key.to_string()).collect()
            }
            (Parts::Stores, _) => vec![datastore::OBJECT.id.to_string()],
        };
        whole.into_iter().chain(parts).map(move |part| (counter, part))
    })
}

fn query(world: &World, spec: &Data) -> Result<(Data, usize), VimFault> {
    let given =
        spec.reference("entity").ok_or_else(|| VimFault::invalid_argument("querySpec.entity", "it is required"))?;
    let (object, whose) = subject(world, given)?;
    let (seconds, most) = check_interval(spec.number("intervalId"))?;
    let wanted: Vec<(i32, &str)> = spec
        .datas("metricId")
        .map(|id| (id.int("counterId").unwrap_or_default(), id.text("instance").unwrap_or_default()))
        .collect();
    if let Some((key, _)) = wanted.iter().find(|(key, _)| counter_of(*key).is_none()) {
        return Err(VimFault::invalid_argument("querySpec.metricId", format!("there is no counter {key}")));
    }
    let asked = |counter: &Counter, part: &str| {
        wanted.is_empty() || wanted.iter().any(|(key, own)| *key == counter.key && (*own == "*" || *own == part))
    };
    let times = times(world, &whose, spec, seconds, most);
    let series: Vec<(&Counter, String)> = match times.is_empty() {
        true => Vec::new(),
        false => kept(&whose).filter(|(counter, part)| asked(counter, part)).collect(),
    };
    let last = times.last().copied().unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let values = |counter: &Counter, part: &str| -> Vec<i64> {
        let now = gauge(world, &whose, counter.gauge, part, last, seconds);
        let then = |at: &OffsetDateTime| match counter.gauge {
            Gauge::Uptime => (now - (last - *at).whole_seconds()).max(0),
            _ => now,
        };
        times.iter().map(then).collect()
    };
    let count = series.len() * times.len().max(1);
    if spec.text("format") == Some("csv") {
        let stamps: Vec<String> = times.iter().map(|at| format!("{seconds},{}", timestamp(*at))).collect();
        let rows = series.iter().map(|(counter, part)| {
            let values: Vec<String> = values(counter, part).iter().map(i64::to_string).collect();
            Data::new("PerfMetricSeriesCSV").with("id", id(counter, part)).with("value", values.join(","))
        });
        let told = Data::new("PerfEntityMetricCSV").with("entity", object).with("sampleInfoCSV", stamps.join(","));
        return Ok((told.with("value", rows.collect::<Vec<_>>()), count));
    }
    let stamps = times.iter().map(|at| {
        let interval = i32::try_from(seconds).unwrap_or_default();
        Data::new("PerfSampleInfo").with("timestamp", *at).with("interval", interval)
    });
    let rows = series.iter().map(|(counter, part)| {
        Data::new("PerfMetricIntSeries").with("id", id(counter, part)).with("value", values(counter, part))
    });
    let told = Data::new("PerfEntityMetric").with("entity", object);
    Ok((told.with("sampleInfo", stamps.collect::<Vec<_>>()).with("value", rows.collect::<Vec<_>>()), count))
}

/// When samples were taken, oldest first: at whole intervals of the clock, and once at the start.
fn times(world: &World, whose: &Subject<'_>, spec: &Data, seconds: i64, most: i64) -> Vec<OffsetDateTime> {
    let Some(began) = since(world, whose) else { return Vec::new() };
    let time = |name: &str| match spec.get(name) {
        Some(Value::Time(time)) => Some(*time),
        _ => None,
    };
    let now = OffsetDateTime::now_utc();
    let whole = |at: OffsetDateTime| at.unix_timestamp() - at.unix_timestamp().rem_euclid(seconds);
    let last = whole(time("endTime").unwrap_or(now).min(now));
    // A start is outside of what is asked for, an end inside.
    let first = time("startTime").map_or(last - most * seconds, |at| whole(at) + seconds).max(whole(began));
    let first = first.max(whole(now) - most * seconds);
    let limit = spec.number("maxSample").filter(|limit| *limit > 0).unwrap_or(most);
    let count = ((last - first) / seconds + 1).clamp(0, most).min(limit);
    let stamp = |at: i64| OffsetDateTime::from_unix_timestamp(last - at * seconds).ok();
    (0..count).rev().filter_map(stamp).collect()
}

/// What a running machine takes of the processors, as the inventory's summaries have it.
fn megahertz(vm: &Vm) -> i64 {
    i64::from(vm.cpus) * 12
}

fn gauge(world: &World, whose: &Subject<'_>, gauge: Gauge, part: &str, at: OffsetDateTime, seconds: i64) -> i64 {
    let machines: Vec<&Vm> = match whose {
        Subject::Host => running(world).collect(),
        Subject::Pool(machines) => machines.clone(),
        Subject::Machine(vm) => vec![vm],
    };
    let count = i64::try_from(machines.len()).unwrap_or(i64::MAX);
    let (capacity, processors, memory) = match whose {
        Subject::Machine(vm) => {
            (i64::from(vm.cpus) * i64::from(host::MHZ), i64::from(vm.cpus), i64::from(vm.memory_mb))
        }
        _ => (i64::from(host::CORES) * i64::from(host::MHZ), i64::from(host::CORES), host::MEMORY >> 20),
    };
    let used: i64 = machines.iter().map(|vm| megahertz(vm)).sum::<i64>().min(capacity);
    let granted: i64 = machines.iter().map(|vm| i64::from(vm.memory_mb) << 10).sum();
    // One processor of several works as much as the next.
    let shares = if part.is_empty() { 1 } else { processors.max(1) };
    let spent = used * seconds * 1000 / i64::from(host::MHZ);
    let began = since(world, whose).unwrap_or(at);
    match gauge {
        Gauge::CpuPercent => used * 10_000 / capacity.max(1),
        Gauge::CpuMegahertz => used,
        Gauge::CpuUsed => spent / shares,
        Gauge::CpuIdle => (processors * seconds * 1000 - spent).max(0) / shares,
        Gauge::CpuReady => count,
        Gauge::CpuCapacity => capacity,
        Gauge::MemoryPercent => (granted / 2).saturating_mul(10_000) / (memory << 10).max(1),
        Gauge::MemoryConsumed => granted / 2,
        Gauge::MemoryActive => granted / 10,
        Gauge::MemoryGranted => granted,
        Gauge::MemoryCapacity => memory,
        Gauge::Uptime => (at - began).max(Duration::ZERO).whole_seconds(),
        Gauge::DiskUsage => count * 10,
        Gauge::DiskRead => count * 2,
        Gauge::DiskWrite => count * 8,
        Gauge::DiskReads => count * seconds / 4,
        Gauge::DiskWrites => count * seconds,
        Gauge::NetUsage => count * 3,
        Gauge::NetReceived => count,
        Gauge::NetSent => count * 2,
        Gauge::Watts if matches!(whose, Subject::Machine(_)) => 1,
        Gauge::Watts => 200 + count,
        Gauge::Nothing => 0,
    }
}
