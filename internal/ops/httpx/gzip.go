package httpx

import (
	"net/http"
	"strings"
)

// AcceptsGzip reports whether the client of r accepts gzip (RFC 9110 section 12.5.3).
func AcceptsGzip(r *http.Request) bool {
	for _, list := range r.Header["Accept-Encoding"] {
		for one := range strings.SplitSeq(list, ",") {
			coding, weight, _ := strings.Cut(one, ";")
			if strings.TrimSpace(coding) == "gzip" {
				return strings.Trim(weight, " q=0.") != "" || !strings.Contains(weight, "0")
			}
		}
	}
	return false
}
