package httpx

import (
	"net/http"
	"strings"
)

// maxRanges is the number of ranges that one request may have.
const maxRanges = 8

// LimitRanges removes the header Range with too many ranges, so that the client gets the whole file
// (RFC 9110 section 14.2).
func LimitRanges(r *http.Request) {
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range")
	}
}
