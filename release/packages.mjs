// Makes what installs a release out of its archives: npm packages, install.sh, a Homebrew formula and a Scoop
// manifest. Targets are those of targets.json; version, description and repository those of Cargo.toml.
//
//   node release/packages.mjs ARCHIVES OUT [--some]
//
// ARCHIVES has the archives of release/pack with their .sha256 files. A missing archive is an error, or is left
// out with --some.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [archives, out, some] = process.argv.slice(2);
if (!out || (some && some !== "--some")) {
  console.error("usage: node release/packages.mjs ARCHIVES OUT [--some]");
  process.exit(4);
}
const here = dirname(fileURLToPath(import.meta.url));
const project = (path) => join(here, "..", path);

const cargo = readFileSync(project("Cargo.toml"), "utf8");
const [version, description, license, repository] = ["version", "description", "license", "repository"].map(
  (key) => cargo.match(new RegExp(`^${key} = "(.*)"$`, "m"))[1],
);
const downloads = `${repository}/releases/download/v${version}`;

const targets = Object.entries(JSON.parse(readFileSync(join(here, "targets.json"), "utf8"))).map(
  ([target, { os, cpu }]) => {
    const name = `codex-manager-${version}-${target}`;
    const archive = name + (os === "win32" ? ".zip" : ".tar.gz");
    return { target, os, cpu, name, archive, package: `codex-manager-${os}-${cpu}`, url: `${downloads}/${archive}` };
  },
);
const present = targets.filter(({ archive }) => {
  if (existsSync(join(archives, archive))) return true;
  console.error(`${some ? "left out" : "error"}: there is no ${join(archives, archive)}`);
  return false;
});
if (present.length < (some ? 1 : targets.length)) process.exit(1);
for (const one of present) {
  one.sha256 = readFileSync(join(archives, `${one.archive}.sha256`), "utf8").split(/\s/)[0];
}
mkdirSync(out, { recursive: true });

// npm: a package for each platform with its binary, and `codex-manager`, which depends on all of them and starts
// the one that npm installed.
function pack(manifest, program, contents) {
  const folder = join(out, "npm", manifest.name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, program), contents);
  chmodSync(join(folder, program), 0o755);
  for (const file of ["LICENSE", "README.md"]) {
    copyFileSync(project(file), join(folder, file));
  }
  const whole = { version, description, license, repository: `git+${repository}.git`, files: [program], ...manifest };
  writeFileSync(join(folder, "package.json"), JSON.stringify(whole, null, 2) + "\n");
  execFileSync("npm", ["pack", "--silent", "--pack-destination", resolve(out)], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
  });
}

function extract({ os, name, archive }) {
  const path = join(archives, archive);
  const [program, ...args] =
    os === "win32"
      ? ["unzip", "-p", path, `${name}/codex-manager.exe`]
      : ["tar", "xzOf", path, `${name}/codex-manager`];
  return execFileSync(program, args, { maxBuffer: 1 << 30 });
}

for (const one of present) {
  const program = one.os === "win32" ? "codex-manager.exe" : "codex-manager";
  pack({ name: one.package, os: [one.os], cpu: [one.cpu] }, program, extract(one));
}
pack(
  {
    name: "codex-manager",
    bin: { "codex-manager": "launcher.js" },
    engines: { node: ">=18" },
    optionalDependencies: Object.fromEntries(targets.map((one) => [one.package, version])),
  },
  "launcher.js",
  readFileSync(join(here, "launcher.js")),
);

// The installer for Linux and macOS.
const unix = present.filter(({ os }) => os !== "win32");
const cases = unix.map(({ os, cpu, target, sha256 }) => `    ${os}-${cpu}) target=${target} sha256=${sha256} ;;`);
const installer = readFileSync(join(here, "install.sh"), "utf8")
  .replaceAll("@VERSION@", version)
  .replaceAll("@DOWNLOADS@", downloads)
  .replace("@TARGETS@", cases.join("\n"));
writeFileSync(join(out, "install.sh"), installer, { mode: 0o755 });

// Homebrew: the file Formula/codex-manager.rb of the tap.
const system = (os) =>
  [
    ["arm64", "on_arm"],
    ["x64", "on_intel"],
  ].flatMap(([cpu, block]) =>
    unix
      .filter((one) => one.os === os && one.cpu === cpu)
      .map((one) => `    ${block} do\n      url "${one.url}"\n      sha256 "${one.sha256}"\n    end\n`),
  );
const formula = `class CodexManager < Formula
  desc "${description}"
  homepage "${repository}"
  version "${version}"
  license "${license}"

  on_macos do
${system("darwin").join("")}  end

  on_linux do
${system("linux").join("")}  end

  def install
    bin.install "codex-manager"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/codex-manager.bash" => "codex-manager"
    zsh_completion.install "completions/codex-manager.zsh" => "_codex-manager"
    fish_completion.install "completions/codex-manager.fish"
    doc.install "docs"
  end

  test do
    assert_equal "codex-manager #{version}", shell_output("#{bin}/codex-manager --version").strip
  end
end
`;
writeFileSync(join(out, "codex-manager.rb"), formula);

// Scoop: installs from the address of this file.
const windows = present.filter(({ os }) => os === "win32");
const architecture = windows.map(({ cpu, url, sha256, name }) => [
  cpu === "x64" ? "64bit" : "arm64",
  { url, hash: sha256, extract_dir: name },
]);
const manifest = {
  version,
  description,
  homepage: repository,
  license,
  architecture: Object.fromEntries(architecture),
  bin: "codex-manager.exe",
};
writeFileSync(join(out, "codex-manager.json"), JSON.stringify(manifest, null, 4) + "\n");
