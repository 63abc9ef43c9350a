// Makes the npm packages of a release: one for each platform with its binary, and `codex-manager`, which
// depends on all of them and starts the one that npm installed.
//
//   node npm/pack.mjs VERSION BINARIES OUT
//
// BINARIES has a folder for each target, such as x86_64-unknown-linux-gnu/codex-manager. The packages are
// written to OUT as .tgz files.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [version, binaries, out] = process.argv.slice(2);
if (!out) {
  console.error("usage: node npm/pack.mjs VERSION BINARIES OUT");
  process.exit(4);
}
const here = dirname(fileURLToPath(import.meta.url));
const platforms = JSON.parse(readFileSync(join(here, "platforms.json"), "utf8"));
const shared = {
  version,
  description: "Keeps OpenAI Codex CLI accounts and conversations safe, switchable and portable",
  license: "MIT",
};

function pack(manifest, files) {
  const folder = join(out, manifest.name);
  mkdirSync(folder, { recursive: true });
  for (const [name, from] of Object.entries(files)) {
    copyFileSync(from, join(folder, name));
  }
  for (const name of manifest.programs) {
    chmodSync(join(folder, name), 0o755);
  }
  const { programs, ...written } = { ...shared, ...manifest };
  writeFileSync(join(folder, "package.json"), JSON.stringify(written, null, 2) + "\n");
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  execFileSync(npm, ["pack", "--silent", "--pack-destination", resolve(out)], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
  });
}

for (const [target, { package: name, os, cpu, libc }] of Object.entries(platforms)) {
  const program = os === "win32" ? "codex-manager.exe" : "codex-manager";
  const binary = join(binaries, target, program);
  if (!existsSync(binary)) {
    console.error(`skipped ${name}: there is no ${binary}`);
    continue;
  }
  const manifest = { name, os: [os], cpu: [cpu], files: [program], programs: [program] };
  pack(libc ? { ...manifest, libc: [libc] } : manifest, { [program]: binary });
}

const names = Object.values(platforms).map((platform) => platform.package);
pack(
  {
    name: "codex-manager",
    bin: { "codex-manager": "codex-manager.js" },
    files: ["codex-manager.js"],
    engines: { node: ">=18" },
    optionalDependencies: Object.fromEntries(names.map((name) => [name, version])),
    programs: ["codex-manager.js"],
  },
  {
    "codex-manager.js": join(here, "codex-manager.js"),
    "README.md": join(here, "..", "README.md"),
    LICENSE: join(here, "..", "LICENSE"),
  },
);
