//! `CreateScreenshot_Task`: a picture of the console, as a PNG in the machine's folder.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::{Power, Vm};
use crate::sim::call::{Answer, Call};
use crate::sim::datastore::{self, file_fault};
use crate::sim::fault::VimFault;
use crate::sim::task;
use crate::sim::value::Value;
use crate::sim::world::World;

/// A text console's size.
const WIDTH: u32 = 720;
const HEIGHT: u32 = 400;

pub fn take(world: &mut World, call: &Call) -> Answer {
    let object = call.this.clone();
    world.vm(&object)?;
    task::change(world, call, &object.clone(), move |_, world| {
        let vm = world.vm(&object)?.clone();
        if vm.power != Power::On {
            return Err(VimFault::invalid_power_state(Some("poweredOn"), vm.power.name()));
        }
        datastore::materialise(world, &vm.folder())?;
        let picture = png(&vm).map_err(VimFault::system)?;
        for number in 1..10_000 {
            let path = vm.folder().join(&format!("{}-{number}.png", vm.name.replace('/', "_")));
            let at = world.datastore.resolve(&path)?;
            if !at.exists() {
                std::fs::write(&at, &picture).map_err(|error| file_fault(&path, &error))?;
                return Ok(Some(Value::from(path.to_string())));
            }
        }
        Err(VimFault::file("FileAlreadyExists", vm.folder().to_string()))
    })
}

/// A dark screen with a bar for each processor: no two machines need look the same, and the same machine does.
pub(super) fn png(vm: &Vm) -> std::io::Result<Vec<u8>> {
    let bars = u32::try_from(vm.cpus).unwrap_or(1).min(32);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    for row in 0..HEIGHT {
        let lit = |column: u32| (16..32).contains(&row) && column < bars * 20 && column % 20 < 16;
        let pixels = (0..WIDTH).map(|column| if lit(column) { 0xc0 } else { 0x10 });
        packed.write_all(&std::iter::once(0).chain(pixels).collect::<Vec<u8>>())?;
    }
    let packed = packed.finish()?;
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&WIDTH.to_be_bytes()[..], &HEIGHT.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    for (kind, content) in [(b"IHDR", header.as_slice()), (b"IDAT", &packed), (b"IEND", &[])] {
        let mut sum = flate2::Crc::new();
        sum.update(kind);
        sum.update(content);
        out.extend(u32::try_from(content.len()).unwrap_or_default().to_be_bytes());
        out.extend(kind);
        out.extend(content);
        out.extend(sum.sum().to_be_bytes());
    }
    Ok(out)
}
