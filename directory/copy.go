package directory

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"mpr/company"
)

// The file of a replica: a line that names the format, the regions as JSON with their
// length ahead, then a key and a value of eight bytes each per company, and a checksum
// over all of it. Integers are little-endian.
const (
	copyFormat = "mpr replica 1\n"
	// maxRegionsJSON bounds what is read for the regions, should the file be damaged.
	maxRegionsJSON = 4 << 20
)

var (
	errDamaged = errors.New("the file is damaged")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

type copyHeader struct {
	Environment string               `json:"environment"`
	Codes       []company.Region     `json:"codes"`
	Infos       []company.RegionInfo `json:"infos"`
	Count       int                  `json:"count"`
}

// save writes the file if anything has changed since the last time.
func (r *Replica) save() error {
	r.write.Lock()
	dirty, t, list := r.dirty, r.placements.Load(), r.regions.Load()
	count := t.used
	r.dirty = false
	r.write.Unlock()
	if !dirty || r.file == "" {
		return nil
	}
	err := WriteFile(r.file, func(w io.Writer) error {
		return writeCopy(w, copyHeader{r.environment, list.codes, list.infos, count}, t)
	})
	if err != nil {
		r.write.Lock()
		r.dirty = true
		r.write.Unlock()
	}
	return err
}

func writeCopy(to io.Writer, h copyHeader, t *table) error {
	sum := crc32.New(castagnoli)
	w := bufio.NewWriterSize(io.MultiWriter(to, sum), 1<<16)
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], uint64(len(head)))
	_, _ = w.WriteString(copyFormat) // a bufio.Writer keeps its first error for Flush
	_, _ = w.Write(word[:])
	_, _ = w.Write(head)
	left := h.Count
	// Companies that came after the count was taken are left for the next time.
	t.each(func(id company.ID, v uint64) bool {
		if left == 0 {
			return false
		}
		left--
		binary.LittleEndian.PutUint64(word[:], uint64(id)) //nolint:gosec // ids are positive
		_, _ = w.Write(word[:])
		binary.LittleEndian.PutUint64(word[:], v)
		_, _ = w.Write(word[:])
		return true
	})
	if err := w.Flush(); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(word[:], sum.Sum32())
	_, err = to.Write(word[:4])
	return err
}

// load reads the file into the empty replica.
func (r *Replica) load() error {
	f, err := os.Open(r.file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	in := bufio.NewReaderSize(f, 1<<16)
	checked := io.TeeReader(in, sum)
	h, err := readHeader(checked, info.Size())
	if err != nil {
		return err
	}
	if h.Environment != r.environment {
		return fmt.Errorf("the file is a copy of environment %q, not of %q", h.Environment, r.environment)
	}
	t := newTable(h.Count)
	var pair [16]byte
	for range h.Count {
		if _, err := io.ReadFull(checked, pair[:]); err != nil {
			return errDamaged
		}
		id, v := binary.LittleEndian.Uint64(pair[:8]), binary.LittleEndian.Uint64(pair[8:])
		if packedRegion(v) >= len(h.Codes) || id == 0 || v == 0 || !t.put(company.ID(id), v) { //nolint:gosec // checked by the sum below
			return errDamaged
		}
	}
	var want [4]byte
	if _, err := io.ReadFull(in, want[:]); err != nil || binary.LittleEndian.Uint32(want[:]) != sum.Sum32() {
		return errDamaged
	}
	r.regions.Store(&regionList{codes: h.Codes, infos: h.Infos})
	r.placements.Store(t)
	return nil
}

func readHeader(in io.Reader, size int64) (copyHeader, error) {
	var h copyHeader
	head := make([]byte, len(copyFormat)+8)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(copyFormat)]) != copyFormat {
		return h, errDamaged
	}
	n := binary.LittleEndian.Uint64(head[len(copyFormat):])
	if n > maxRegionsJSON {
		return h, errDamaged
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(in, data); err != nil || json.Unmarshal(data, &h) != nil {
		return h, errDamaged
	}
	if h.Count < 0 || int64(h.Count) > size/16 || len(h.Codes) != len(h.Infos) || len(h.Codes) > maxRegions {
		return h, errDamaged
	}
	return h, nil
}

// WriteFile replaces a file in one step, synced to disk, readable by its owner alone.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".copy-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
