const http = require('http');
http.createServer((req, res) => {
  res.writeHead(200, {'Content-Type': 'text/plain; charset=utf-8', 'Content-Length': 13});
  res.end('Hello, World!');
}).listen(Number(process.argv[2]), '127.0.0.1');
