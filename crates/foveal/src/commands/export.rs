//! `foveal export`.

use anyhow::Result;
use burn::tensor::Device;
use foveal_detector::{Checkpoint, Counters, Precision, export_weights, torchvision_note, verify_weights};

use crate::args::{ExportArgs, ExportFormat};
use crate::failure::DONE;
use crate::output;

/// Writes a checkpoint's network for another program; what to do with the file goes to stdout.
///
/// # Errors
/// A checkpoint that cannot be read or has no place in the format, or a file that is not what was meant.
pub fn run(args: &ExportArgs) -> Result<u8> {
    // Nothing is computed: the weights pass through the host.
    let checkpoint = Checkpoint::load(&args.checkpoint, &Device::flex())?;
    output::create_parent(&args.output)?;
    match args.format {
        ExportFormat::Safetensors => weights(args, &checkpoint, Counters::LeftOut)?,
        ExportFormat::Torchvision => {
            let note = torchvision_note(&checkpoint, &args.output)?;
            weights(args, &checkpoint, Counters::Written)?;
            output::print(&note)?;
        }
    }
    Ok(DONE)
}

fn weights(args: &ExportArgs, checkpoint: &Checkpoint, counters: Counters) -> Result<()> {
    let precision = if args.half { Precision::F16 } else { Precision::F32 };
    export_weights(checkpoint, &args.output, precision, counters)?;
    if !args.no_verify {
        verify_weights(checkpoint, &args.output, precision)?;
        eprintln!("{}: written and read again", args.output.display());
    }
    Ok(())
}
