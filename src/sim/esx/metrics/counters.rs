//! The counters that a host keeps: number, name, unit, how values are taken and put together, and whom each is kept of.
//!
//! Numbers and names are those of ESXi, of its few hundred counters those that are asked for most.

use crate::sim::value::Data;

/// Of what a counter is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Host,
    Machine,
    Both,
    /// Machines, pools and the host alike.
    All,
}

/// What a counter tells of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Hundredths of a percent of the processors.
    CpuPercent,
    CpuMegahertz,
    /// Milliseconds of an interval that processors were used, and were not.
    CpuUsed,
    CpuIdle,
    CpuReady,
    CpuCapacity,
    /// Hundredths of a percent of the memory.
    MemoryPercent,
    MemoryConsumed,
    MemoryActive,
    MemoryGranted,
    MemoryCapacity,
    /// Seconds since the start.
    Uptime,
    /// Kilobytes in a second, and requests in an interval.
    DiskUsage,
    DiskRead,
    DiskWrite,
    DiskReads,
    DiskWrites,
    NetUsage,
    NetReceived,
    NetSent,
    Watts,
    Nothing,
}

/// A counter.
pub struct Counter {
    pub key: i32,
    group: &'static str,
    name: &'static str,
    rollup: &'static str,
    stats: &'static str,
    unit: &'static str,
    pub of: Of,
    pub gauge: Gauge,
    label: &'static str,
}

#[rustfmt::skip]
pub const COUNTERS: &[Counter] = &[
    counter(1, "cpu.usage.average", "rate percent", Of::Both, Gauge::CpuPercent, "Usage"),
    counter(5, "cpu.usagemhz.average", "rate megaHertz", Of::All, Gauge::CpuMegahertz, "Usage in MHz"),
    counter(8, "cpu.reservedCapacity.average", "absolute megaHertz", Of::Host, Gauge::Nothing, "Reserved capacity"),
    counter(11, "cpu.ready.summation", "delta millisecond", Of::Both, Gauge::CpuReady, "Ready"),
    counter(12, "cpu.used.summation", "delta millisecond", Of::Both, Gauge::CpuUsed, "Used"),
    counter(13, "cpu.idle.summation", "delta millisecond", Of::Both, Gauge::CpuIdle, "Idle"),
    counter(16, "cpu.utilization.average", "rate percent", Of::Host, Gauge::CpuPercent, "Utilization"),
    counter(23, "cpu.totalCapacity.average", "absolute megaHertz", Of::Host, Gauge::CpuCapacity, "Total capacity"),
    counter(26, "cpu.demand.average", "absolute megaHertz", Of::Both, Gauge::CpuMegahertz, "Demand"),
    counter(27, "cpu.costop.summation", "delta millisecond", Of::Both, Gauge::Nothing, "Co-stop"),
    counter(65_537, "mem.usage.average", "absolute percent", Of::Both, Gauge::MemoryPercent, "Host consumed %"),
    counter(65_541, "mem.granted.average", "absolute kiloBytes", Of::All, Gauge::MemoryGranted, "Granted"),
    counter(65_545, "mem.active.average", "absolute kiloBytes", Of::All, Gauge::MemoryActive, "Active"),
    counter(65_549, "mem.shared.average", "absolute kiloBytes", Of::All, Gauge::Nothing, "Shared"),
    counter(65_561, "mem.swapused.average", "absolute kiloBytes", Of::Host, Gauge::Nothing, "Swap consumed"),
    counter(65_582, "mem.vmmemctl.average", "absolute kiloBytes", Of::All, Gauge::Nothing, "Ballooned memory"),
    counter(65_591, "mem.swapped.average", "absolute kiloBytes", Of::Machine, Gauge::Nothing, "Swapped"),
    counter(65_611, "mem.consumed.average", "absolute kiloBytes", Of::All, Gauge::MemoryConsumed, "Consumed"),
    counter(65_618, "mem.swapinRate.average", "rate kiloBytesPerSecond", Of::Both, Gauge::Nothing, "Swap in rate"),
    counter(65_619, "mem.swapoutRate.average", "rate kiloBytesPerSecond", Of::Both, Gauge::Nothing, "Swap out rate"),
    counter(65_625, "mem.totalCapacity.average", "absolute megaBytes", Of::Host, Gauge::MemoryCapacity, "Total reservation"),
    counter(131_073, "disk.usage.average", "rate kiloBytesPerSecond", Of::Both, Gauge::DiskUsage, "Usage"),
    counter(131_076, "disk.numberRead.summation", "delta number", Of::Both, Gauge::DiskReads, "Read requests"),
    counter(131_077, "disk.numberWrite.summation", "delta number", Of::Both, Gauge::DiskWrites, "Write requests"),
    counter(131_078, "disk.read.average", "rate kiloBytesPerSecond", Of::Both, Gauge::DiskRead, "Read rate"),
    counter(131_079, "disk.write.average", "rate kiloBytesPerSecond", Of::Both, Gauge::DiskWrite, "Write rate"),
    counter(131_081, "disk.commandsAborted.summation", "delta number", Of::Both, Gauge::Nothing, "Commands aborted"),
    counter(196_609, "net.usage.average", "rate kiloBytesPerSecond", Of::Both, Gauge::NetUsage, "Usage"),
    counter(196_614, "net.received.average", "rate kiloBytesPerSecond", Of::Both, Gauge::NetReceived, "Data receive rate"),
    counter(196_615, "net.transmitted.average", "rate kiloBytesPerSecond", Of::Both, Gauge::NetSent, "Data transmit rate"),
    counter(262_144, "sys.uptime.latest", "absolute second", Of::Both, Gauge::Uptime, "Uptime"),
    counter(262_170, "sys.osUptime.latest", "absolute second", Of::Machine, Gauge::Uptime, "OS Uptime"),
    counter(589_826, "virtualDisk.read.average", "rate kiloBytesPerSecond", Of::Machine, Gauge::DiskRead, "Read rate"),
    counter(589_827, "virtualDisk.write.average", "rate kiloBytesPerSecond", Of::Machine, Gauge::DiskWrite, "Write rate"),
    counter(655_362, "datastore.read.average", "rate kiloBytesPerSecond", Of::Both, Gauge::DiskRead, "Read rate"),
    counter(655_363, "datastore.write.average", "rate kiloBytesPerSecond", Of::Both, Gauge::DiskWrite, "Write rate"),
    counter(720_896, "power.power.average", "rate watt", Of::Both, Gauge::Watts, "Usage"),
];

/// `name` is `group.name.rollup`, `form` how values are taken and their unit.
const fn counter(
    key: i32,
    name: &'static str,
    form: &'static str,
    of: Of,
    gauge: Gauge,
    label: &'static str,
) -> Counter {
    let (group, rest) = cut(name, b'.');
    let (name, rollup) = cut(rest, b'.');
    let (stats, unit) = cut(form, b' ');
    Counter { key, group, name, rollup, stats, unit, of, gauge, label }
}

/// What stands before a byte, and behind it; all of it and nothing where there is none.
const fn cut(text: &'static str, at: u8) -> (&'static str, &'static str) {
    let bytes = text.as_bytes();
    let mut place = 0;
    while place < bytes.len() {
        if bytes[place] == at {
            let (before, rest) = text.split_at(place);
            return (before, rest.split_at(1).1);
        }
        place += 1;
    }
    (text, "")
}

pub fn counter_of(key: i32) -> Option<&'static Counter> {
    COUNTERS.iter().find(|counter| counter.key == key)
}

fn element(key: &'static str, label: &'static str, summary: String) -> Data {
    Data::new("ElementDescription").with("label", label).with("summary", summary).with("key", key)
}

impl Counter {
    pub fn render(&self) -> Data {
        let (group, unit) = (group(self.group), unit(self.unit));
        Data::new("PerfCounterInfo")
            .with("key", self.key)
            .with("nameInfo", element(self.name, self.label, format!("{} ({unit})", self.label)))
            .with("groupInfo", element(self.group, group, group.to_owned()))
            .with("unitInfo", element(self.unit, unit, unit.to_owned()))
            .with("rollupType", self.rollup)
            .with("statsType", self.stats)
            .with("level", 1)
            .with("perDeviceLevel", 3)
    }

    /// What kinds of parts it is kept of beside the whole: processors, cards, disks.
    pub fn parts(&self) -> Parts {
        match (self.group, self.name) {
            ("cpu", "usage" | "used" | "idle" | "utilization") => Parts::Processors,
            ("net", _) => Parts::Cards,
            ("disk" | "datastore" | "virtualDisk", _) => Parts::Stores,
            _ => Parts::None,
        }
    }

    /// Whether there is a value of the whole.
    pub fn has_whole(&self) -> bool {
        !matches!(self.group, "virtualDisk" | "datastore")
    }
}

/// The parts that a counter is kept of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    None,
    Processors,
    Cards,
    Stores,
}

fn group(key: &str) -> &'static str {
    match key {
        "cpu" => "CPU",
        "mem" => "Memory",
        "disk" => "Disk",
        "net" => "Network",
        "sys" => "System",
        "virtualDisk" => "Virtual disk",
        "datastore" => "Datastore",
        _ => "Power",
    }
}

fn unit(key: &str) -> &'static str {
    match key {
        "percent" => "%",
        "megaHertz" => "MHz",
        "millisecond" => "ms",
        "kiloBytes" => "KB",
        "megaBytes" => "MB",
        "kiloBytesPerSecond" => "KBps",
        "second" => "s",
        "watt" => "W",
        _ => "num",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_number_and_a_name_of_its_own() {
        let mut keys: Vec<i32> = COUNTERS.iter().map(|counter| counter.key).collect();
        keys.dedup();
        assert_eq!(keys.len(), COUNTERS.len());
        for counter in COUNTERS {
            assert!(["average", "summation", "latest"].contains(&counter.rollup), "{}", counter.key);
            assert!(["rate", "delta", "absolute"].contains(&counter.stats), "{}", counter.key);
            assert!(!counter.unit.is_empty() && !counter.name.is_empty());
        }
    }
}
