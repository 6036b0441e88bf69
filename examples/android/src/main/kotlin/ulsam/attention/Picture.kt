package ulsam.attention

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** Pixels row by row, each 0xAARRGGBB, as `Bitmap.getPixels` gives them. */
class Picture(val width: Int, val height: Int, val pixels: IntArray) {

    /**
     * What the model takes: (pixel - mean) / std, (height, width, channels), as `load_images` does.
     *
     * The picture is cropped at its centre to the aspect ratio and resized bilinearly, smoothed
     * where it is made smaller; one channel is grey; transparency is left out.
     */
    fun prepared(height: Int, width: Int, channels: Int, mean: List<Float>, std: List<Float>): FloatArray {
        val fitted = fitted(height, width, channels)
        return FloatArray(fitted.size) { i ->
            val channel = i % channels
            (fitted[i] - mean[channel % mean.size]) / std[channel % std.size]
        }
    }

    /** The same part of the picture at another size, to be shown. */
    fun shown(height: Int, width: Int): Picture {
        val fitted = fitted(height, width, 3)
        return Picture(width, height, IntArray(height * width) { i ->
            opaque(fitted[3 * i], fitted[3 * i + 1], fitted[3 * i + 2])
        })
    }

    /** Whole numbers of 0 to 255, (height, width, channels). */
    private fun fitted(height: Int, width: Int, channels: Int): IntArray {
        val ratio = width.toDouble() / height
        val wide = this.width >= ratio * this.height
        val cropWidth = if (wide) ratio * this.height else this.width.toDouble()
        val cropHeight = if (wide) this.height.toDouble() else this.width / ratio
        val columns = taps(this.width, (this.width - cropWidth) / 2, cropWidth, width)
        val rows = taps(this.height, (this.height - cropHeight) / 2, cropHeight, height)
        // First along the rows, then down the columns, each rounded to whole numbers.
        val across = IntArray(this.height * width * channels) { i ->
            val row = i / (width * channels) * this.width
            columns[i / channels % width].sum { x -> channel(pixels[row + x], i % channels, channels) }
        }
        return IntArray(height * width * channels) { i ->
            val place = i % (width * channels)
            rows[i / (width * channels)].sum { y -> across[y * width * channels + place] }
        }
    }

    /** The weights of the pixels from a first one on. */
    private class Taps(val first: Int, val weights: DoubleArray) {
        inline fun sum(value: (Int) -> Int): Int {
            var total = 0.5
            for (k in weights.indices) total += weights[k] * value(first + k)
            return min(max(total.toInt(), 0), 255)
        }
    }

    private companion object {
        /** A triangle of the width of the larger pixel, at every pixel of the result. */
        fun taps(size: Int, start: Double, length: Double, count: Int): List<Taps> {
            val scale = length / count
            val reach = max(scale, 1.0)
            return List(count) { n ->
                val centre = start + (n + 0.5) * scale
                val first = max((centre - reach + 0.5).toInt(), 0)
                val last = min((centre + reach + 0.5).toInt(), size)
                val weights = DoubleArray(last - first) { k ->
                    max(0.0, 1 - abs(first + k - centre + 0.5) / reach)
                }
                val sum = weights.sum()
                Taps(first, DoubleArray(weights.size) { weights[it] / sum })
            }
        }

        fun channel(pixel: Int, index: Int, channels: Int): Int {
            val red = pixel shr 16 and 0xff
            val green = pixel shr 8 and 0xff
            val blue = pixel and 0xff
            // Luma of ITU-R 601.
            if (channels == 1) return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) shr 16
            return if (index == 0) red else if (index == 1) green else blue
        }
    }
}

/** A pixel of three parts of 0 to 255. */
fun opaque(red: Int, green: Int, blue: Int): Int =
    0xff shl 24 or (red shl 16) or (green shl 8) or blue
