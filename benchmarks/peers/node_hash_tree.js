// The SHA-256 of a tree: of all files' digests with their paths, sorted. 64 files at a time.
const fs = require('fs/promises');
const {createHash} = require('crypto');
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function walk(folder, paths) {
  for (const entry of await fs.readdir(folder, {withFileTypes: true})) {
    const path = folder + '/' + entry.name;
    if (entry.isDirectory()) await walk(path, paths);
    else if (entry.isFile()) paths.push(path);
  }
  return paths;
}

(async () => {
  const root = process.argv[2];
  const paths = await walk(root, []);
  const digests = [];
  let next = 0;
  await Promise.all(Array.from({length: 64}, async () => {
    while (next < paths.length) {
      const path = paths[next++];
      digests.push(path.slice(root.length + 1) + ' ' + sha256(await fs.readFile(path)));
    }
  }));
  digests.sort();
  console.log(digests.length + ' ' + sha256(digests.join('\n')));
})();
