#!/usr/bin/env node
// Starts the binary of the package for this platform, which npm installs as an optional dependency.
"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");

const name = `codex-manager-${process.platform}-${process.arch}`;
const file = process.platform === "win32" ? "codex-manager.exe" : "codex-manager";

let binary;
try {
  binary = require.resolve(`${name}/${file}`);
} catch {
  console.error(`error: the npm package ${name} is not installed`);
  console.error("\nhint: install without --omit=optional; if there is no package for this platform,");
  console.error("  build codex-manager from its source with cargo");
  process.exit(1);
}

const child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
// The terminal sends these to the binary too, which decides what they mean. Other senders know this
// process only, so SIGTERM and SIGHUP are passed on.
process.on("SIGINT", () => {});
process.on("SIGQUIT", () => {});
for (const signal of ["SIGTERM", "SIGHUP"]) {
  process.on(signal, () => child.kill(signal));
}
child.on("error", (error) => {
  console.error(`error: cannot start ${binary}: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  process.exit(signal ? 128 + constants.signals[signal] : code);
});
