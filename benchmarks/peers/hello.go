package main

import (
	"net/http"
	"os"
	"syscall"
)

func userMicroseconds() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Sec*1000000 + int64(usage.Utime.Usec)
}

func main() {
	body := []byte("Hello, World!")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(body)
	})
	http.HandleFunc("/burn", func(w http.ResponseWriter, r *http.Request) {
		for began := userMicroseconds(); userMicroseconds()-began < 200000; {
			for i := 0; i < 1000; i++ {
			}
		}
		w.Write([]byte("burnt"))
	})
	http.ListenAndServe("127.0.0.1:"+os.Args[1], nil)
}
