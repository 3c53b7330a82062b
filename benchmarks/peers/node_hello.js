const http = require('http');
http.createServer((req, res) => {
  if (req.url === '/burn') {
    for (const began = process.cpuUsage().user; process.cpuUsage().user - began < 200000;) for (let i = 0; i < 1000; i++);
    return res.end('burnt');
  }
  res.writeHead(200, {'Content-Type': 'text/plain; charset=utf-8', 'Content-Length': 13});
  res.end('Hello, World!');
}).listen(Number(process.argv[2]), '127.0.0.1');
