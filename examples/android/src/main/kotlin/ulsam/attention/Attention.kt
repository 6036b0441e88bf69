package ulsam.attention

import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min

/**
 * The attention of one ULSAM over one picture, in units of the uniform attention.
 *
 * @param layer Its name.
 * @param shape As of the output: (1, height, width, groups).
 * @param attention As the output gives it: every map sums to 1.
 */
class Attention(val layer: String, shape: List<Int>, attention: FloatArray) {
    val height = shape[1]
    val width = shape[2]
    val groups = shape[3]
    private val values = FloatArray(attention.size) { attention[it] * height * width }

    /** What the colours span, the same for all groups: its values, at least 1/2 to 2, at most a factor of 1000. */
    val highest = max(2f, values.fold(0f) { most, value -> max(most, value) })
    val lowest = min(
        max(values.fold(Float.POSITIVE_INFINITY) { least, value -> min(least, value) }, highest / 1000),
        0.5f
    )

    /** The map of one group at the size of a picture, not smoothed: a position is a square. */
    fun times(group: Int, height: Int, width: Int) = FloatArray(height * width) { i ->
        val row = i / width * this.height / height
        val column = i % width * this.width / width
        values[(row * this.width + column) * groups + group]
    }

    /** The colours of the map over a picture. */
    fun over(picture: Picture, group: Int): Picture {
        val times = times(group, picture.height, picture.width)
        return Picture(picture.width, picture.height, IntArray(times.size) { i ->
            mixed(colour(scaled(times[i])), picture.pixels[i])
        })
    }

    /** Where a value is between the lowest and the highest, 0 to 1, by its logarithm. */
    fun scaled(times: Float): Float {
        val inside = min(max(times, lowest), highest)
        return ln(inside / lowest) / ln(highest / lowest)
    }
}

// viridis at seventeen equal steps.
private val COLOURS = intArrayOf(
    0x440154, 0x48186a, 0x472d7b, 0x424086, 0x3b528b, 0x33638d, 0x2c728e, 0x26828e, 0x21918c,
    0x1fa088, 0x28ae80, 0x3fbc73, 0x5ec962, 0x84d44b, 0xaddc30, 0xd8e219, 0xfde725
)

/** The colour of a share of 0 to 1. */
fun colour(share: Float): Int {
    val place = share * (COLOURS.size - 1)
    val step = min(place.toInt(), COLOURS.size - 2)
    return parts(COLOURS[step], COLOURS[step + 1]) { from, to -> from + (place - step) * (to - from) }
}

/** Three fifths of a colour over two of a pixel. */
private fun mixed(colour: Int, pixel: Int) = parts(colour, pixel) { over, under -> 0.6f * over + 0.4f * under }

private inline fun parts(first: Int, second: Int, mix: (Int, Int) -> Float): Int {
    return opaque(
        (mix(part(first, 16), part(second, 16)) + 0.5f).toInt(),
        (mix(part(first, 8), part(second, 8)) + 0.5f).toInt(),
        (mix(part(first, 0), part(second, 0)) + 0.5f).toInt()
    )
}

private fun part(value: Int, shift: Int) = value shr shift and 0xff
