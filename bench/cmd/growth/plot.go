package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	oursColor  = color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
	floorColor = color.RGBA{R: 0x8a, G: 0x8a, B: 0x8a, A: 0xff}
)

const width, height = 24 * vg.Centimeter, 9 * vg.Centimeter

// drawPlots writes both axes, side by side, as growth.svg and growth.png.
func drawPlots(folder string, users, sizes []point) error {
	left, err := newPlot("remembered users (cookies of 350 bytes)", users)
	if err != nil {
		return err
	}
	left.X.Scale = plot.LogScale{}
	right, err := newPlot("bytes of cookies (one user)", sizes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	svg := vgsvg.New(width, height)
	png := vgimg.PngCanvas{Canvas: vgimg.New(width, height)}
	for name, canvas := range map[string]vg.CanvasWriterTo{"growth.svg": svg, "growth.png": png} {
		tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Centimeter, PadTop: vg.Millimeter, PadRight: 3 * vg.Millimeter}
		whole := draw.New(canvas)
		left.Draw(tiles.At(whole, 0, 0))
		right.Draw(tiles.At(whole, 1, 0))
		if err := write(filepath.Join(folder, name), canvas); err != nil {
			return err
		}
	}
	return nil
}

func write(name string, canvas vg.CanvasWriterTo) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func newPlot(axis string, points []point) (*plot.Plot, error) {
	p := plot.New()
	p.X.Label.Text = axis
	p.Y.Label.Text = "CPU ns per request"
	p.X.Tick.Marker = ticks(points)
	p.Y.Tick.Marker = plot.TickerFunc(wholeNumbers)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for _, series := range []struct {
		name  string
		color color.Color
		ns    func(point) float64
	}{
		{"dssauth", oursColor, func(p point) float64 { return p.ours.Median() }},
		{"FLOOR", floorColor, func(p point) float64 { return p.floor.Median() }},
	} {
		xys := make(plotter.XYs, len(points))
		for i, p := range points {
			xys[i].X, xys[i].Y = float64(p.at), series.ns(p)
		}
		line, dots, err := plotter.NewLinePoints(xys)
		if err != nil {
			return nil, err
		}
		line.Color, dots.Color = series.color, series.color
		line.Width, dots.Shape = vg.Points(1.5), draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(series.name, line, dots)
	}
	p.Y.Min = 0
	return p, nil
}

// ticks marks the measured places whose labels do not overlap.
func ticks(points []point) plot.ConstantTicks {
	var marks plot.ConstantTicks
	for _, p := range points {
		label := fmt.Sprint(p.at)
		switch {
		case p.at >= 1_000_000:
			label = fmt.Sprintf("%dM", p.at/1_000_000)
		case p.at >= 1000 && p.at%1000 == 0:
			label = fmt.Sprintf("%dk", p.at/1000)
		case p.at >= 1024 && p.at%1024 == 0:
			label = fmt.Sprintf("%d Ki", p.at/1024)
		case p.at > 100:
			label = "" // too close to each other
		}
		marks = append(marks, plot.Tick{Value: float64(p.at), Label: label})
	}
	return marks
}

func wholeNumbers(low, high float64) []plot.Tick {
	marks := plot.DefaultTicks{}.Ticks(low, high)
	for i, m := range marks {
		if m.Label != "" {
			marks[i].Label = strconv.Itoa(int(m.Value))
		}
	}
	return marks
}
